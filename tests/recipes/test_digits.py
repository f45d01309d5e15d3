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
    assert not (exp / "bundle").exists()
    if [name for name in ("onnx", "onnxscript", "sherpa_onnx") if find_spec(name) is None]:
        return
    words = ("--stage", 9, "--stop-stage", 10, "--subnet", "0.5", "--data", tmp_path / "data", "--exp", exp)
    done = recipe("digits", *words, *FEW, *TINY_MODEL)
    assert done.returncode == 0, done.stderr
    (models,) = (size["models"] for size in json.loads((exp / "bundle" / "check.json").read_text())["sizes"].values())
    assert {name: rate["identical"] for name, rate in models["float"]["sets"].items()} == {"dev": 4, "test": 4}
    deployed = json.loads((exp / "results.json").read_text())["subnets"]["w0.5"]["deployed"]
    assert deployed["float"]["sets"].keys() == {"dev", "test"}


TINY_TODM = (
    "--config=conf/todm.yaml",
    "--set=frontend.channels=4",
    "--set=encoder.d_model=16",
    "--set=encoder.num_layers=2",
    "--set=encoder.ffn_dim=16",
    "--set=encoder.ssm_state=4",
    "--set=space.depths=[2, 1]",
    "--set=space.units.ffn=[16, 8]",
    "--set=predictor.dim=8",
    "--set=joiner.dim=16",
    "--set=training.num_epochs=2",
    "--set=training.calibration_batches=1",
    "--set=method.phases=[{epoch: 2, kd_weight: 0.1, optimizer: {kind: scaled_adam}}]",
    "--set=search.initial=3",
    "--set=search.generations=1",
    "--set=search.mutations=1",
    "--set=search.crossovers=1",
    "--set=search.rtf_seconds=1",
)


@pytest.mark.skipif(find_spec("espeakng_loader") is None, reason="espeakng-loader (extra demo) is absent")
def test_todm_through_every_stage(recipe: Run, tmp_path: Path) -> None:
    """Sandwich, teacher, switch of optimiser, evolutionary search, decoding of its front, report."""
    exp = tmp_path / "exp"
    done = recipe("digits", "--data", tmp_path / "data", "--exp", exp, "--nj", 1, *FEW, *TINY_TODM)
    assert done.returncode == 0, done.stderr
    results = json.loads((exp / "results.json").read_text())
    front = json.loads((exp / "search" / "front.json").read_text())["front"]
    assert {item["id"] for item in front} <= set(results["subnets"]) and "w1" in results["subnets"]
    assert all({"dev", "test"} <= set(entry["wer"]) for entry in results["subnets"].values())
    summary = json.loads((exp / "search" / "summary.json").read_text())
    assert summary["generator"] == "evolution" and summary["candidates"] >= 3
    assert (exp / "report.html").exists()
