"""Validation with utterances that no loss can be computed of, against sets without them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from slimasr.config.search import DecodingConfig
from slimasr.data.batch import Batch
from slimasr.methods.base import StepContext
from slimasr.methods.slimmable import Slimmable
from slimasr.objective.objective import Objective
from slimasr.supernet.space import WidthSpace
from slimasr.training.distributed import World
from slimasr.training.validation import dev_metric, validate
from tests.training.kit import TinyBatches, make_objective, tiny_config, tiny_tokenizer

LOSSES = {"transducer": 1.0, "ctc": 0.5}


def measured(objective: Objective, batches: Sequence[Batch]) -> dict[str, float]:
    method = Slimmable(WidthSpace((1.0, 0.5)), LOSSES)
    context = StepContext(0, 1, 10, random.Random(0))
    return validate(objective, method, batches, tiny_tokenizer(), DecodingConfig(), context, World())


def impossible(batch: Batch, row: int) -> Batch:
    """One utterance of the batch said 30 times as fast: more tokens than encoder frames."""
    y = torch.cat([batch.y, batch.y.new_full((len(batch), 60), 0)], dim=1)
    y[row] = 3
    y_lens = batch.y_lens.clone()
    y_lens[row] = y.shape[1]
    texts = tuple("b a" if i == row else text for i, text in enumerate(batch.texts))
    return replace(batch, y=y, y_lens=y_lens, texts=texts, unscored=frozenset({batch.ids[row]}))


@pytest.mark.parametrize("loss", [{"rnnt_type": "modified"}, {"transducer": "pruned", "prune_range": 3}])
def test_losses_are_those_of_the_others_and_the_wer_is_that_of_all(loss: dict[str, object]) -> None:
    objective = make_objective(tiny_config(loss=loss), tiny_tokenizer())
    good = list(TinyBatches(tiny_tokenizer()).dev())
    mixed = [impossible(good[0], 1), good[1], impossible(impossible(good[2], 0), 1)]
    mixed[2] = replace(mixed[2], unscored=frozenset(mixed[2].ids))
    found = measured(objective, mixed)
    others = measured(objective, [good[0].select([0]), good[1]])
    everything = measured(objective, [replace(batch, unscored=frozenset()) for batch in mixed])
    assert found.keys() == others.keys()
    for name, value in found.items():
        expected = everything if name.endswith("/wer") else others
        assert value == pytest.approx(expected[name], rel=1e-5), name
        assert value < 1e4


def test_a_set_without_any_loss_has_a_wer() -> None:
    objective = make_objective(tiny_config(), tiny_tokenizer())
    batches = [replace(batch, unscored=frozenset(batch.ids)) for batch in TinyBatches(tiny_tokenizer()).dev()]
    assert measured(objective, batches).keys() == {"w1/wer", "w0.5/wer"}


def test_a_diverged_model_hides_nothing_and_never_wins() -> None:
    objective = make_objective(tiny_config(), tiny_tokenizer())
    batches = list(TinyBatches(tiny_tokenizer()).dev())
    good = measured(objective, batches)
    with torch.no_grad():
        objective.model.joiner.output.weight.fill_(float("nan"))
    bad = measured(objective, batches)
    assert bad["w1/transducer"] != bad["w1/transducer"], "the losses are those of the model"
    assert dev_metric(good) < dev_metric({**good, "w1/transducer": float("nan")})
    assert not dev_metric({**good, "w1/transducer": float("nan")}) < dev_metric(good)
    assert dev_metric(good) < dev_metric({**good, "w1/wer": float("inf")})
