"""Which utterances have an alignment, against enumeration and torch's own CTC."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path

import pytest
import torch

from slimasr.config.loss import LossConfig
from slimasr.config.model import CtcConfig
from slimasr.config.schema import Config
from slimasr.data.batches.filters import unusable, write_bad_utterances
from slimasr.data.features.frames import feature_frames
from slimasr.data.features.shards import make_extractor
from slimasr.data.files import BadUtterance
from slimasr.data.tokens.tokenizer import Tokenizer
from tests.data.corpus import config, encoder_frames

TOKENS = range(3, 9)


@pytest.fixture
def tokenizer(prepared: tuple[Path, Tokenizer]) -> Tokenizer:
    return prepared[1]


def _with_loss(**loss: object) -> Config:
    recipe = config(min_cut_seconds=0.0)
    return recipe.model_copy(update={"loss": recipe.loss.model_copy(update=loss)})


def _reason(recipe: Config, tokenizer: Tokenizer, frames: int, ids: list[int]) -> str | None:
    return unusable(1.0, "ONE", ids, recipe, tokenizer, encoder_frames=lambda _: frames)


@pytest.mark.parametrize("kind", ["transducer", "ctc"])
def test_ctc_feasibility_is_that_of_a_finite_loss(tokenizer: Tokenizer, kind: str) -> None:
    recipe = _with_loss(ctc_weight=1.0, transducer="full", rnnt_type="regular")
    if kind == "ctc":
        # The default of ``loss.transducer`` would say less: a CTC model has no such loss.
        model = CtcConfig(frontend=recipe.model.frontend, encoder=recipe.model.encoder)
        recipe = recipe.model_copy(update={"model": model, "loss": LossConfig()})
    generator = torch.Generator().manual_seed(0)
    for frames, length in product(range(1, 6), range(1, 6)):
        for _ in range(4):
            ids = torch.randint(3, 6, (length,), generator=generator)
            loss = torch.nn.functional.ctc_loss(
                torch.zeros(frames, 1, 9).log_softmax(-1),
                ids[None],
                torch.tensor([frames]),
                torch.tensor([length]),
                reduction="none",
            )
            reason = _reason(recipe, tokenizer, frames, ids.tolist())
            assert (reason is None) == math.isfinite(float(loss))


def _moves(frames: int, prune_range: int) -> set[int]:
    """Every lattice height U + 1 whose top a band reaches: it starts at 0 and moves up below its own height."""
    tops = {prune_range}
    for _ in range(frames - 1):
        tops = {top + step for top in tops for step in range(prune_range)}
    return {height for top in tops for height in range(1, top + 1)}


def test_pruned_feasibility_is_that_of_a_band_that_reaches_the_last_token(tokenizer: Tokenizer) -> None:
    for prune_range, frames, length in product((2, 3, 5), (1, 2, 3), range(1, 16)):
        recipe = _with_loss(ctc_weight=0.0, transducer="pruned", prune_range=prune_range)
        reason = _reason(recipe, tokenizer, frames, [3] * length)
        assert (reason is None) == (length + 1 in _moves(frames, prune_range))


@pytest.mark.parametrize("rnnt_type", ["modified", "constrained"])
def test_one_symbol_a_frame_needs_as_many_frames(tokenizer: Tokenizer, rnnt_type: str) -> None:
    recipe = _with_loss(ctc_weight=0.0, transducer="full", rnnt_type=rnnt_type)
    assert _reason(recipe, tokenizer, 4, [3, 3, 3, 3]) is None
    assert rnnt_type in str(_reason(recipe, tokenizer, 3, [3, 3, 3, 3]))


def test_the_full_regular_loss_needs_one_frame(tokenizer: Tokenizer) -> None:
    recipe = _with_loss(ctc_weight=0.0, transducer="full", rnnt_type="regular")
    assert _reason(recipe, tokenizer, 1, [3] * 50) is None
    assert "encoder frame" in str(_reason(recipe, tokenizer, 0, [3]))


def test_text_and_length_reasons(tokenizer: Tokenizer) -> None:
    recipe = config(min_cut_seconds=0.2, max_cut_seconds=10.0)

    def reason(seconds: float, text: str) -> str:
        return str(unusable(seconds, text, tokenizer.encode(text), recipe, tokenizer, encoder_frames))

    assert reason(1.0, "ONE") == "None"
    assert "empty" in reason(1.0, " ")
    assert "'ÄON'" in reason(1.0, "ÄON")
    assert "data.min_cut_seconds" in reason(0.1, "ONE")
    assert "data.max_cut_seconds" in reason(10.1, "ONE")


def test_frames_are_those_of_the_extractor() -> None:
    extractor = make_extractor(20, 16000)
    for samples in (1000, 1599, 8000, 16079, 16081, 23456):
        frames = len(extractor.extract(torch.zeros(1, samples).numpy(), 16000))
        assert feature_frames(samples / 16000) == frames


def test_the_list_is_one_object_a_line(tmp_path: Path) -> None:
    bad = [BadUtterance("a", "ä"), BadUtterance("b", "x")]
    write_bad_utterances(tmp_path / "bad.jsonl", bad)
    rows = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert rows == [{"id": "a", "reason": "ä"}, {"id": "b", "reason": "x"}]
