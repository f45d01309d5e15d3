"""Dev and test sets hold what training leaves out: what is marked there, and which notes the user gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from slimasr.config.model import ConvFrontendConfig, FrontendConfig, StackFrontendConfig, VggFrontendConfig
from slimasr.config.schema import Config
from slimasr.data.batches.evaluation import eval_batches
from slimasr.data.batches.evaluation_notes import evaluation_notes
from slimasr.encoders.frontend import build_frontend
from slimasr.losses.transducer import rnnt_loss
from tests.data.corpus import config, encoder_frames, make_an4, run_stages, set_text

LONG = "NINE STOP " * 40


def with_loss(recipe: Config, **loss: Any) -> Config:
    return recipe.model_copy(update={"loss": recipe.loss.model_copy(update=loss)})


def stack(factor: int) -> FrontendConfig:
    return StackFrontendConfig(factor=factor)


@pytest.mark.parametrize("frontend", [ConvFrontendConfig(), VggFrontendConfig(), *map(stack, (1, 4, 10))])
def test_configured_front_ends_count_frames_as_the_real_ones(frontend: FrontendConfig) -> None:
    real = build_frontend(frontend, 80, 40, 0.0)
    frames = torch.arange(200)
    assert [frontend.output_frames(n) for n in frames.tolist()] == real.output_lens(frames).tolist()
    assert [int(real.output_lens(torch.tensor(frontend.min_frames - n))) for n in (0, 1)] == [1, 0]


@pytest.mark.parametrize("rnnt_type", ["regular", "modified", "constrained"])
def test_what_has_no_alignment_is_marked_and_named(an4: Path, tmp_path: Path, rnnt_type: str) -> None:
    """Against the loss itself, on uniform scores."""
    set_text(an4, "train", "speakere-1", f"<s> {LONG} </s>")
    recipe = with_loss(config(), rnnt_type=rnnt_type, ctc_weight=0.0, transducer="full")
    tokenizer = run_stages(recipe, tmp_path, an4)
    marked, infinite, texts = set[str](), set[str](), dict[str, str]()
    for batch in eval_batches(recipe, tmp_path, "dev", tokenizer, 4.0):
        marked |= batch.unscored
        texts |= dict(zip(batch.ids, batch.texts, strict=True))
        for row, name in enumerate(batch.ids):
            frames, tokens = encoder_frames(int(batch.x_lens[row])), int(batch.y_lens[row])
            limits = torch.tensor([[0, 0, tokens, frames]])
            scores = torch.zeros(1, frames, tokens + 1, tokenizer.vocab_size)
            labels = batch.y[row : row + 1, :tokens]
            loss = rnnt_loss(scores, labels, 0, limits, rnnt_type=rnnt_type, reduction="none", backend="torch")
            infinite |= set() if torch.isfinite(loss).all() else {name}
    assert marked == infinite == (set() if rnnt_type == "regular" else {"speakere-1"})
    assert texts["speakere-1"] == LONG.strip()
    notes = evaluation_notes(recipe, tmp_path, "dev", tokenizer, losses=True)
    assert len(notes) == len(marked)
    for note in notes:
        assert note.startswith("dev: 1 of 4 utterances is left out of the losses but kept in the WER: speakere-1 (")
        assert f"no {rnnt_type} alignment" in note
    assert evaluation_notes(recipe, tmp_path, "dev", tokenizer, losses=False) == []


def test_no_more_than_three_are_named(tmp_path: Path) -> None:
    corpus = make_an4(tmp_path / "an4", utterances_per_speaker=5)
    for number in range(5):
        set_text(corpus, "test", f"tester-{number}", LONG)
    recipe = config()
    tokenizer = run_stages(recipe, tmp_path / "data", corpus)
    (note,) = evaluation_notes(recipe, tmp_path / "data", "test", tokenizer, losses=True)
    assert note.startswith("test: 5 of 5 utterances are left out")
    assert note.count("no CTC alignment") == 3
    assert note.endswith(", ...")
