"""All stages of the AN4 recipe on a few utterances of the real corpus."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.recipes.conftest import TINY_MODEL, Run

WIDTHS = ("w1", "w0.75", "w0.5", "w0.25")


@pytest.fixture
def small_an4(corpus: Callable[[str], Path], tmp_path: Path) -> Path:
    """Two utterances of each train speaker, twelve of the test set; audio linked."""
    source, target = corpus("an4"), tmp_path / "an4"
    (target / "etc").mkdir(parents=True)
    (target / "wav").symlink_to(source / "wav")
    for part in ("train", "test"):
        ids = (source / "etc" / f"an4_{part}.fileids").read_text().split()
        kept = ids[:12] if part == "test" else [i for n, i in enumerate(ids) if _nth_of_speaker(ids, n) < 1]
        names = {Path(i).name for i in kept}
        lines = (source / "etc" / f"an4_{part}.transcription").read_text().splitlines()
        chosen = [line for line in lines if line.rsplit("(", 1)[-1].rstrip(") ") in names]
        (target / "etc" / f"an4_{part}.fileids").write_text("\n".join(kept) + "\n")
        (target / "etc" / f"an4_{part}.transcription").write_text("\n".join(chosen) + "\n")
    return target


def _nth_of_speaker(ids: list[str], number: int) -> int:
    speaker = Path(ids[number]).parent
    return sum(Path(i).parent == speaker for i in ids[:number])


def test_every_stage(recipe: Run, small_an4: Path, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    done = recipe("an4", "--corpus-dir", small_an4, "--data", tmp_path / "data", "--exp", exp, "--nj", 1, *TINY_MODEL)
    assert done.returncode == 0, done.stderr
    results = json.loads((exp / "results.json").read_text())
    assert sorted(results["subnets"]) == sorted(WIDTHS)
    for name in WIDTHS:
        test = results["subnets"][name]["wer"]["test"]
        assert test["words"] > 12
        assert test["errors"] == test["ins"] + test["del"] + test["sub"]
    assert "report.html" in done.stdout.splitlines()[-1]
    assert "plotly" in (exp / "report.html").read_text()

    again = recipe("an4", "--stage", "4", "--stop-stage", "4", "--data", tmp_path / "data", "--exp", exp, *TINY_MODEL)
    assert again.returncode == 0, again.stderr
    assert json.loads((exp / "results.json").read_text())["steps"] == results["steps"]


def test_a_separate_model_and_another_size(recipe: Run, small_an4: Path, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    done = recipe(
        "an4", "--config", "conf/separate.yaml", "--set", "method.subnet=0.5", "--corpus-dir", small_an4,
        "--data", tmp_path / "data", "--exp", exp, "--stop-stage", "5", *TINY_MODEL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((exp / "results.json").read_text())
    assert results["separate_of"] == "w0.5"
    assert list(results["subnets"]) == ["w1"]
