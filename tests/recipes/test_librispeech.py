"""The LibriSpeech recipe on real utterances in the corpus's own layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.recipes.conftest import TINY_MODEL, Run


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
