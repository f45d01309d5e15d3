"""Label priors: the mean posterior of every output layer, over all frames but padding."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
import torch
from kaldialign import edit_distance

from slimasr.config.loss import LossConfig
from slimasr.config.model import CtcConfig
from slimasr.data.batches.batch import Batch
from slimasr.data.graphs.dictionary import mark_word_ends, spell
from slimasr.data.graphs.lexicon import Lexicon
from slimasr.data.tokens.phonemes import PhonemeTokenizer
from slimasr.methods import build_method
from slimasr.methods.base import StepContext
from slimasr.models.build import build_model, head_names
from slimasr.objective.objective import Objective
from slimasr.supernet.build import build_space
from slimasr.supernet.subnet import Subnet
from slimasr.training.distributed import ALONE
from slimasr.training.priors import estimate_priors
from tests.tiny import VOCAB_SIZE, batch, randomize
from tests.training.kit import MEL_BINS, SENTENCES, TinyBatches, make_objective, make_trainer, tiny_config

BATCHES = [batch(seed=0), batch((35, 80), (2, 3), seed=3)]


def estimated(subnets: list[Subnet], exits: tuple[int, ...] = ()) -> Objective:
    """A tiny CTC model whose priors were estimated over some subnets."""
    config = tiny_config(dropout=0.2)
    shared = {"num_mel_bins": config.model.num_mel_bins, "frontend": config.model.frontend}
    model = CtcConfig(**shared, encoder=config.model.encoder, exits=list(exits))
    config = config.model_copy(update={"model": model, "loss": LossConfig()})
    space = build_space(config)
    torch.manual_seed(2)
    objective = Objective(
        build_model(model, config.loss, VOCAB_SIZE, space.widths, head_names(config)), config.loss
    ).train()
    randomize(objective.model)
    method = build_method(config, space, objective.model).train()
    method.calibrated = lambda: subnets  # type: ignore[method-assign]
    estimate_priors(objective, method, lambda: BATCHES, StepContext(0, 1, 1, random.Random(0)), ALONE)
    assert objective.training and objective.model.encoder.training and method.training
    return objective


@torch.no_grad()
def mean_posterior(objective: Objective, subnets: list[Subnet], batches: list[Batch] = BATCHES) -> list[float]:
    """Sum posteriors utterance by utterance, each alone and so without padding."""
    model = objective.model.eval()
    total, frames = torch.zeros(model.vocab_size, dtype=torch.float64), 0
    for one in batches:
        for row, length in zip(one.x, one.x_lens.tolist(), strict=True):
            for subnet in subnets:
                out = model.encode(row[None, :length], torch.tensor([length]), subnet)
                posterior = model.ctc_logits(out.out, subnet)[0].double().exp()
                for frame in posterior:
                    total += frame / frame.sum()
                    frames += 1
    return (total / frames).tolist()


def test_a_prior_is_the_mean_posterior_of_all_subnets_of_its_head() -> None:
    by_head = {None: [Subnet(1.0), Subnet(0.5)], "exit1": [Subnet(1.0, path=(0,), head="exit1")]}
    objective = estimated([*by_head[None], *by_head["exit1"]], exits=(1, 2))
    for subnets in by_head.values():
        prior = objective.model.ctc_head_of(subnets[0]).log_prior
        torch.testing.assert_close(prior.exp(), torch.tensor(mean_posterior(objective, subnets)), rtol=1e-5, atol=1e-7)
    # No subnet uses this output, so that nothing is known of it.
    assert not objective.model.ctc_head_of(Subnet(head="exit2")).log_prior.any()
    assert objective.model.extract(Subnet(0.5)).output.log_prior.tolist() == prior_of(objective, None)


def prior_of(objective: Objective, subnet: Subnet | None) -> list[float]:
    return objective.model.ctc_head_of(subnet).log_prior.tolist()


def test_a_transducer_has_none() -> None:
    config = tiny_config()
    space = build_space(config)
    model = build_model(config.model, config.loss, VOCAB_SIZE, space.widths)
    context = StepContext(0, 1, 1, random.Random(0))
    method = build_method(config, space, model)
    estimate_priors(Objective(model, config.loss), method, lambda: BATCHES, context, ALONE)
    assert not model.ctc_head_of(None).log_prior.any()


def test_a_run_ends_with_priors_and_validates_phonemes(tmp_path: Path) -> None:
    encoder = {"d_model": 16, "num_layers": 1, "num_heads": 2, "head_dim": 8, "ffn_dim": 32, "kernel_size": 3}
    config = tiny_config(
        model={"kind": "ctc", "num_mel_bins": MEL_BINS, "frontend": {"channels": 4}, "encoder": encoder},
        training={"num_epochs": 1},
    )
    words = {word for text in SENTENCES for word in text.split()}
    tokenizer = PhonemeTokenizer.of(Lexicon(mark_word_ends(spell(words))))
    batches = TinyBatches(tokenizer, seed=config.seed)
    trainer = make_trainer(config, tmp_path, batches=batches, objective=make_objective(config, tokenizer))
    trainer.data = replace(trainer.data, tokenizer=tokenizer)
    trainer.run()

    # Batches are those of the epoch after the last one, without the augmentation that this data have not.
    model = trainer.objective.model.eval()
    saved = torch.load(tmp_path / "final.pt", weights_only=True)["model"]["output.log_prior"]
    assert torch.equal(saved, model.ctc_head_of(None).log_prior)
    calibration = list(trainer.calibration_batches())
    assert len(calibration) == 2
    expected = mean_posterior(trainer.objective, [Subnet(1.0), Subnet(0.5)], calibration)
    torch.testing.assert_close(saved.exp(), torch.tensor(expected), rtol=1e-5, atol=1e-7)
    # The best checkpoint was written before they were known.
    best = torch.load(tmp_path / "checkpoints" / "best.pt", weights_only=True)["model"]
    assert not best["output.log_prior"].any()

    # The logged rate is that of phonemes, letters here.
    (line,) = (tmp_path / "train_log.jsonl").read_text().splitlines()
    logged = json.loads(line)["dev"]
    assert logged.keys() == {"w1/ctc", "w1/per", "w0.5/ctc", "w0.5/per"}
    final = trainer.validate(1)
    # Which restores the mode of training.
    model.eval()
    wrong = number = 0
    for dev in batches.dev():
        for row, text in enumerate(dev.texts):
            length = int(dev.x_lens[row])
            with torch.no_grad():
                out = model.encode(dev.x[row : row + 1, :length], torch.tensor([length]), Subnet(0.5))
                best_labels = model.ctc_logits(out.out, Subnet(0.5))[0].argmax(-1).tolist()
            found = [label for label, _ in groupby(best_labels) if label > 2]
            wrong += edit_distance(tokenizer.encode(text), found)["total"]
            number += len(text.replace(" ", ""))
    assert final["w0.5/per"] == pytest.approx(100 * wrong / number)
