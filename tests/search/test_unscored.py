"""Search and records with dev utterances that no loss can be computed of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from slimasr.data.batches.batch import Batch
from slimasr.data.batches.evaluation import eval_batches
from slimasr.experiment import Experiment
from slimasr.measure.quality import measure_quality
from slimasr.search.evaluator import Evaluator


@pytest.fixture(scope="module")
def opened(untrained: Path) -> Experiment:
    return Experiment.open(untrained)


@pytest.fixture(scope="module")
def batches(opened: Experiment, data: Path) -> list[Batch]:
    return list(eval_batches(opened.config, data, "dev", opened.tokenizer, 1.8))


@pytest.mark.parametrize("int8", [False, True])
def test_dev_loss_is_that_of_the_utterances_that_have_one(opened: Experiment, batches: list[Batch], int8: bool) -> None:
    names = batches[0].ids[0], *batches[1].ids
    marked = [replace(batch, unscored=frozenset(names)) for batch in batches]
    kept = [batch.select(rows) for batch in marked if (rows := batch.scored_rows)]
    assert 0 < len(kept) < len(batches)
    search = opened.config.search.model_copy(update={"int8": int8})
    config = opened.config.model_copy(update={"search": search})
    for subnet in opened.space:
        ours, whole, others = (
            Evaluator(opened.model, opened.tokenizer, part, config) for part in (marked, batches, kept)
        )
        outcome = ours.evaluate(subnet)
        assert outcome.errors == whole.evaluate(subnet).errors
        assert outcome.words == whole.words_of(subnet)
        assert outcome.dev_loss == pytest.approx(others.evaluate(subnet).dev_loss, rel=1e-5)
        if not int8:
            quality = measure_quality(opened.model, subnet, marked, opened.tokenizer, config.loss, config.decoding)
            assert quality.loss == pytest.approx(outcome.dev_loss, rel=1e-4)
            assert quality.wer.counts.errors == outcome.errors


def test_without_any_loss_there_is_none(opened: Experiment, batches: list[Batch]) -> None:
    marked = [replace(batch, unscored=frozenset(batch.ids)) for batch in batches]
    config, subnet = opened.config, opened.space.max
    assert Evaluator(opened.model, opened.tokenizer, marked, config).evaluate(subnet).dev_loss is None
    quality = measure_quality(opened.model, subnet, marked, opened.tokenizer, config.loss, config.decoding)
    assert quality.loss is None
    assert quality.wer.sentences == 5
