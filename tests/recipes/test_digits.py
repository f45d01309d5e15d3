"""All stages of the digits recipe, from synthesis to report, on a few utterances."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.recipes.conftest import TINY_MODEL, Run

FEW = (
    "--set=data.options.num_train=24",
    "--set=data.options.num_dev=4",
    "--set=data.options.num_test=4",
    "--set=data.options.max_digits=3",
)


@pytest.mark.skipif(find_spec("espeakng_loader") is None, reason="espeakng-loader (extra demo) is absent")
def test_every_stage(recipe: Run, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    done = recipe("digits", "--data", tmp_path / "data", "--exp", exp, "--nj", 1, *FEW, *TINY_MODEL)
    assert done.returncode == 0, done.stderr
    results = json.loads((exp / "results.json").read_text())
    for name in ("w1", "w0.75", "w0.5", "w0.25"):
        entry = results["subnets"][name]
        assert {"dev", "test"} <= set(entry["wer"])
        assert entry["costs"]["params"] > 0
        assert any(line.split()[1:2] == [name] for line in done.stdout.splitlines())
    assert done.stdout.splitlines()[-1] == f"wrote {exp / 'report.html'}"
    front = json.loads((exp / "search" / "front.json").read_text())["front"]
    assert 1 <= len(front) <= 4
