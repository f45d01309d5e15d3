"""Tiny models whose subnets are learnt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimasr.config.load import parse_config
from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.data.memory.sampling import EpochPart
from slimasr.methods import build_method
from slimasr.methods.mask_learning import MaskLearning
from slimasr.models.build import build_model, head_names
from slimasr.objective.objective import Objective
from slimasr.supernet.build import build_space
from slimasr.training.distributed import World
from slimasr.training.seeding import seed_all
from slimasr.training.trainer import Trainer
from tests.training.kit import MEL_BINS, TinyBatches, make_trainer, tiny_config, tiny_tokenizer

CONFORMER = {
    "kind": "conformer",
    "d_model": 16,
    "num_layers": 2,
    "num_heads": 2,
    "head_dim": 8,
    "ffn_dim": 32,
    "kernel_size": 3,
    "attention": "none",
    "conv_norm": "layer",
    "dropout": 0.0,
}
MH_SSM = {"kind": "mh_ssm", "d_model": 16, "num_layers": 2, "ffn_dim": 32, "ssm_heads": 2, "dropout": 0.0}


def ctc_model(encoder: dict[str, Any] | None = None) -> dict[str, Any]:
    """The model section of a CTC model."""
    common = {"num_mel_bins": MEL_BINS, "frontend": {"channels": 4}}
    return {"kind": "ctc", **common, "encoder": CONFORMER if encoder is None else encoder}


def transducer_model() -> dict[str, Any]:
    """The model section of a transducer."""
    small = {"predictor": {"kind": "stateless", "dim": 16}, "joiner": {"dim": 16}}
    return {**ctc_model(), "kind": "transducer", **small}


def mask_config(
    method: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    loss: dict[str, Any] | None = None,
) -> Config:
    """A recipe of mask learning by parameters, without randomness other than that of the method."""
    tree = tiny_config(training={"spec_augment": None, "num_epochs": 2, **(training or {})}).model_dump(mode="json")
    sections = {
        "space": {"kind": "learnt"},
        "model": ctc_model() if model is None else model,
        "loss": {"per": "frame", **(loss or {})},
        "method": {"kind": "mask_learning", "budgets": [0.45, 0.75], "criterion": "params", **(method or {})},
    }
    return parse_config({**tree, **sections})


def build(config: Config) -> tuple[Objective, MaskLearning]:
    """Model and method, always with the same weights and scores."""
    seed_all(5)
    heads = head_names(config)
    model = build_model(config.model, config.loss, tiny_tokenizer().vocab_size, (1.0,), heads)
    method = build_method(config, build_space(config), model)
    assert isinstance(method, MaskLearning)
    return Objective(model, config.loss), method


@dataclass
class Shares(TinyBatches):
    """The shares of two processes, one after the other."""

    def num_train_batches(self, epoch: int, parts: Sequence[EpochPart] = ()) -> int:
        return 2 * self.num_batches

    def train_batches(self, epoch: int, skip: int = 0, parts: Sequence[EpochPart] = ()) -> Iterator[Batch]:
        places = [World(rank, 2) for rank in range(2)]
        shares = [TinyBatches(self.tokenizer, self.seed, place, self.num_batches, self.batch_size) for place in places]
        both = zip(*(share.train_batches(epoch) for share in shares), strict=True)
        return (batch for pair in both for batch in pair)


def train_two_epochs(exp: Path, learner: str, world: World | None = None) -> Trainer:
    """Six steps in float64, with the switch at the 5th: of one of two processes, or of one that takes both shares."""
    settings = {"budgets": [0.6], "step1_share": 0.5, "layer_dropout": 0.5, "learner": {"kind": learner}}
    training = {
        "num_epochs": 3,
        "validate_every": 3,
        "optimizer": {"lr": 1e-2},
        "accumulate": 2 if world is None else 1,
    }
    target, method = build(mask_config(settings, training))
    kind = Shares if world is None else TinyBatches
    batches = kind(tiny_tokenizer(), world=world or World(), batch_size=4, num_batches=3)
    trainer = make_trainer(mask_config(settings, training), exp, method.double(), batches, target.double(), world)
    for _ in range(2):
        trainer.run_epoch()
    assert method.switched
    return trainer
