"""The LibriSpeech recipe on real utterances in the corpus's own layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.recipes.conftest import TINY_MASKS, TINY_MODEL, Run


def test_mini_through_every_stage(recipe: Run, corpus: Callable[[str], Path], tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    done = recipe(
        "librispeech", "--config", "conf/mini.yaml", "--corpus-dir", corpus("librispeech_mini") / "LibriSpeech",
        "--data", tmp_path / "data", "--exp", exp, "--nj", 1,
        "--set=data.options.shortest=8", "--set=data.speeds=[1.0]", "--set=tokenizer.vocab_size=60", *TINY_MODEL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((exp / "results.json").read_text())
    assert results["subnets"]["w1"]["wer"]["test-clean"]["words"] > 20
    assert (exp / "report.html").stat().st_size > 1_000_000  # plotly is inside


def test_paper_4_with_letters_instead_of_phonemes(recipe: Run, corpus: Callable[[str], Path], tmp_path: Path) -> None:
    """Words that the training text lacks have no spelling, so they count as errors."""
    exp = tmp_path / "exp"
    done = recipe(
        "librispeech", "--config", "conf/orthosoftmax_mini.yaml", "--stop-stage", 7,
        "--corpus-dir", corpus("librispeech_mini") / "LibriSpeech",
        "--data", tmp_path / "data", "--exp", exp, "--nj", 1,
        "--set=data.options.shortest=8", "--set=frontend.channels=[2, 4, 4, 2]", *TINY_MASKS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "words without pronunciation, which count as errors" in done.stderr
    results = json.loads((exp / "results.json").read_text())
    assert [entry["wer"]["test-clean"]["words"] > 20 for entry in results["subnets"].values()] == [True, True]
