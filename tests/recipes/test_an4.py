"""All stages of the AN4 recipe on a few utterances of the real corpus."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.recipes.conftest import TINY_MASKS, TINY_MODEL, Run

WIDTHS = ("w1", "w0.75", "w0.5", "w0.25")


@pytest.fixture
def small_an4(corpus: Callable[[str], Path], tmp_path: Path) -> Path:
    """Two utterances of each train speaker, twelve of the test set; audio linked."""
    source, target = corpus("an4"), tmp_path / "an4"
    (target / "etc").mkdir(parents=True)
    (target / "wav").symlink_to(source / "wav")
    (target / "etc" / "an4.dic").symlink_to(source / "etc" / "an4.dic")
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


def test_every_stage_then_resume_then_a_separate_model(recipe: Run, small_an4: Path, tmp_path: Path) -> None:
    exp, data = tmp_path / "exp", ("--data", tmp_path / "data")
    done = recipe("an4", "--corpus-dir", small_an4, *data, "--exp", exp, "--nj", 1, *TINY_MODEL)
    assert done.returncode == 0, done.stderr
    results = json.loads((exp / "results.json").read_text())
    assert sorted(results["subnets"]) == sorted(WIDTHS)
    for name in WIDTHS:
        test = results["subnets"][name]["wer"]["test"]
        assert test["words"] > 12
        assert test["errors"] == test["ins"] + test["del"] + test["sub"]
    assert done.stdout.splitlines()[-1] == f"wrote {exp / 'report.html'}"
    assert "plotly" in (exp / "report.html").read_text()

    only_train = ("--stage", 4, "--stop-stage", 4, *data, *TINY_MODEL)
    again = recipe("an4", *only_train, "--exp", exp)
    assert again.returncode == 0, again.stderr
    assert json.loads((exp / "results.json").read_text())["steps"] == results["steps"]

    small = tmp_path / "separate_0.5"
    alone = recipe("an4", *only_train, "--exp", small, "--config", "conf/separate.yaml", "--set", "method.subnet=0.5")
    assert alone.returncode == 0, alone.stderr
    assert json.loads((small / "results.json").read_text())["separate_of"] == "w0.5"


def test_paper_4_from_the_dictionary_to_the_report(recipe: Run, small_an4: Path, tmp_path: Path) -> None:
    exp, data = tmp_path / "exp", tmp_path / "data"
    options = ("--config", "conf/orthosoftmax.yaml", "--corpus-dir", small_an4, "--data", data, "--exp", exp, "--nj", 1)
    done = recipe("an4", *options, "--set=frontend.channels=4", "--set=data.speeds=[1.0]", *TINY_MASKS)
    assert done.returncode == 0, done.stderr
    graph = json.loads((data / "graph_phonemes_54" / "graph.json").read_text())
    # That of the corpus: words, pronunciations, phonemes with and without the mark of a word's end.
    assert (graph["num_words"], graph["num_pronunciations"], graph["num_labels"]) == (101, 130, 51)
    results = json.loads((exp / "results.json").read_text())
    largest, small = results["subnets"].values()
    assert small["costs"]["params"] < largest["costs"]["params"]
    for entry in (largest, small):
        test = entry["wer"]["test"]
        assert test["words"] > 12 and test["errors"] == test["ins"] + test["del"] + test["sub"]
    (learnt,) = json.loads((exp / "subnets.json").read_text())["subnets"][1:]
    assert learnt["name"] == "1 block" and learnt["cost"] < learnt["budget"]
    assert "plotly" in (exp / "report.html").read_text()
