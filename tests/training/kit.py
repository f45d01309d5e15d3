"""A recogniser small enough to train in a second, and made-up utterances to train it on."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from slimasr.config.data import DataConfig
from slimasr.config.load import parse_config
from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.data.memory.samples import Sample
from slimasr.data.memory.sampling import EpochPart, RankInfo, count_batches, plan_epoch, untrained
from slimasr.data.tokens.subwords import SentencePieceTokenizer, train_model
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.methods import build_method
from slimasr.methods.base import Method
from slimasr.models.build import build_model, head_names, pathway_spec
from slimasr.objective.objective import Objective
from slimasr.supernet.build import build_space
from slimasr.training.batches import TrainingData
from slimasr.training.distributed import World
from slimasr.training.logs import RunLog
from slimasr.training.trainer import Trainer

MEL_BINS = 20
SENTENCES = ("ab ba", "abba", "b a", "ba ab b", "aab", "a b ab")


def tiny_config(dropout: float = 0.1, training: dict[str, Any] | None = None, **sections: Any) -> Config:
    """A two-layer Conformer of 16 channels with widths 0.5 and 1."""
    encoder = {"d_model": 16, "num_layers": 2, "num_heads": 2, "head_dim": 8, "ffn_dim": 32, "kernel_size": 3}
    tree: dict[str, Any] = {
        "name": "tiny",
        "data": {"corpus": "digits"},
        "features": {"num_mel_bins": MEL_BINS},
        "model": {
            "num_mel_bins": MEL_BINS,
            "frontend": {"channels": 4},
            "encoder": {**encoder, "dropout": dropout},
            "predictor": {"kind": "stateless", "dim": 16},
            "joiner": {"dim": 16},
        },
        "space": {"widths": [0.5, 1.0]},
        "loss": {"transducer": "full", "ctc_weight": 0.5, "backend": "torch"},
        "training": {
            "num_epochs": 2,
            "optimizer": {"lr": 2e-3},
            "spec_augment": {"max_freq_bins": 4, "max_time_frames": 8},
            "average_period": 2,
            "calibration_batches": 2,
            "scan_worst_batches": False,
            "num_threads": 1,
            **(training or {}),
        },
    }
    for name, section in sections.items():
        # These spaces have no widths, which the others have, and a CTC model has neither predictor nor joiner.
        replaced = ("branches", "list", "learnt", "pathways", "ctc")
        replaces = not isinstance(section, dict) or section.get("kind") in replaced
        tree[name] = section if replaces else {**tree.get(name, {}), **section}
    if tree["model"].get("kind") == "ctc" and "loss" not in sections:
        tree["loss"] = {}
    return parse_config(tree)


def tiny_tokenizer() -> Tokenizer:
    """Characters of the made-up language, trained as the recipe does."""
    import sentencepiece

    config = parse_config({"name": "t", "data": {"corpus": "digits"}, "tokenizer": {"kind": "char"}})
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(train_model(SENTENCES, config.tokenizer))
    return SentencePieceTokenizer(processor, tuple(processor.IdToPiece(i) for i in range(processor.GetPieceSize())))


@dataclass
class TinyBatches:
    """Utterances of noise, each labelled with a sentence; the same ones whatever the number of processes."""

    tokenizer: Tokenizer
    seed: int = 0
    world: World = field(default_factory=World)
    num_batches: int = 6
    batch_size: int = 2
    languages: Sequence[str] = ()
    poisoned: Sequence[str] = ()

    def num_train_batches(self, epoch: int, parts: Sequence[EpochPart] = ()) -> int:
        return self.num_batches

    def train_batches(self, epoch: int, skip: int = 0, parts: Sequence[EpochPart] = ()) -> Iterator[Batch]:
        rng = random.Random(f"{self.seed}/{epoch}")
        order = list(range(self.num_batches))
        rng.shuffle(order)
        return (self._batch(index) for index in order[skip:])

    def dev(self) -> Iterator[Batch]:
        return (self.make([f"dev-{i}" for i in range(start, start + 2)]) for start in (0, 2, 4))

    def worst_batches(self) -> list[Batch]:
        return [self._batch(0)]

    def _batch(self, index: int) -> Batch:
        """One process's share of the utterances of a global batch."""
        share = self.batch_size // self.world.size
        first = index * self.batch_size + self.world.rank * share
        language = self.languages[index % len(self.languages)] if self.languages else None
        return self.make([f"utt-{i}" for i in range(first, first + share)], language)

    def make(self, ids: Sequence[str], language: str | None = None) -> Batch:
        """A batch of these utterances."""
        features, texts = zip(*(self._utterance(name) for name in ids), strict=True)
        labels = [torch.tensor(self.tokenizer.encode(text)) for text in texts]
        pad = torch.nn.utils.rnn.pad_sequence
        return Batch(
            x=pad(list(features), batch_first=True, padding_value=-23.0),
            x_lens=torch.tensor([len(x) for x in features]),
            y=pad(labels, batch_first=True),
            y_lens=torch.tensor([len(y) for y in labels]),
            ids=tuple(ids),
            texts=texts,
            key=language,
        )

    def _utterance(self, name: str) -> tuple[torch.Tensor, str]:
        rng = random.Random(name)
        generator = torch.Generator()
        generator.manual_seed(rng.getrandbits(32))
        x = torch.randn(rng.randint(50, 80), MEL_BINS, generator=generator)
        return (x * float("nan") if name in self.poisoned else x), rng.choice(SENTENCES)


@dataclass
class SampledBatches(TinyBatches):
    """Utterances that the recipe's own sampler shares out, so that processes get fewer batches where there are more."""

    num_utterances: int = 60
    max_cuts: int = 2

    def num_train_batches(self, epoch: int, parts: Sequence[EpochPart] = ()) -> int:
        return count_batches(self.left(epoch, parts), self.data_config, self.world.size)

    def train_batches(self, epoch: int, skip: int = 0, parts: Sequence[EpochPart] = ()) -> Iterator[Batch]:
        place = RankInfo(self.world.rank, self.world.size)
        plan = plan_epoch(self.left(epoch, parts), self.data_config, self.seed, epoch, place)
        return (self.make([item.id for item in batch]) for batch in plan[skip:])

    @property
    def data_config(self) -> DataConfig:
        return DataConfig(corpus="digits", max_cuts=self.max_cuts)

    def left(self, epoch: int, parts: Sequence[EpochPart]) -> list[Sample]:
        """What earlier parts of the epoch have left of the utterances."""
        samples = [Sample(f"utt-{i}", 1.0, 0.5 + i % 7) for i in range(self.num_utterances)]
        return untrained(samples, self.data_config, self.seed, epoch, parts)


def make_objective(config: Config, tokenizer: Tokenizer) -> Objective:
    """Model and losses, the same weights every time."""
    torch.manual_seed(3)
    space = build_space(config)
    sizes = tokenizer.vocab_size, space.widths, head_names(config), pathway_spec(config)
    model = build_model(config.model, config.loss, *sizes)
    return Objective(model, config.loss)


def make_trainer(
    config: Config,
    exp: Path,
    method: Method | None = None,
    batches: TinyBatches | None = None,
    objective: Objective | None = None,
    world: World | None = None,
) -> Trainer:
    """A trainer on made-up utterances."""
    exp.mkdir(parents=True, exist_ok=True)
    world = world or World()
    tokenizer = tiny_tokenizer()
    batches = batches or TinyBatches(tokenizer, seed=config.seed, world=world)
    objective = objective or make_objective(config, tokenizer)
    return Trainer(
        config,
        exp,
        TrainingData(batches, batches.dev, tokenizer),
        objective,
        method or build_method(config, build_space(config), objective.model),
        world,
        RunLog(exp, active=world.is_main),
    )


def assert_equal(a: Any, b: Any, name: str = "") -> None:
    """Equal to the bit, however nested; ``name`` leads to where they differ."""
    assert type(a) is type(b), name
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), name
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), name
        for key in a:
            assert_equal(a[key], b[key], f"{name}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), name
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{name}.{index}")
    else:
        assert a == b, name
