"""Benchmarks of models on devices, at small sizes."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from slimasr.config.load import save_config
from slimasr.supernet.subnet import Subnet
from tests.decoding.made_up import config
from tests.decoding.streaming import EMFORMER, MH_SSM
from tests.tools.test_bench import BENCH, module

for name in ("onnx", "onnxscript", "onnxruntime", "sherpa_onnx"):
    pytest.importorskip(name, reason="the extra export is not installed")

Lines = list[dict[str, Any]]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)


def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def preset(folder: Path, model: dict[str, Any] | None = None) -> Path:
    """A tiny recipe as a file."""
    recipe = config() if model is None else config(model=model)
    save_config(recipe, folder / "recipe.yaml")
    return folder / "recipe.yaml"


def test_a_bundle_against_separate_files(bench: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deploy = module("deploy")
    model, subnets = deploy.supernet(preset(tmp_path))
    assert subnets == [Subnet(), Subnet(0.5)]
    # One size, as every file takes a second to write
    half = subnets[1:]
    sides = deploy.write_both(model, half, tmp_path)
    deploy.compare("tiny", sides, half, frames=60, bins=80, turns=1)
    deploy.switch(sides["bundle"], half * 2)
    found = lines(capsys)
    ratios = [line for line in found if "ratio" in line]
    assert len(ratios) == 2 * (1 + 2) + 1 and all(line["ratio"] > 0.0 for line in ratios)
    assert found[-1]["name"] == "AN4: ms to switch to w0.5" and found[-1]["ours"] > 0.0
    assert deploy.total_bytes(sides["bundle"], int8=False) == sum(
        (tmp_path / "bundle" / name).stat().st_size for name in ("weights.bin", "encoder.w0.5.onnx")
    )


def test_forms_of_state_space_layers(bench: None, capsys: pytest.CaptureFixture[str]) -> None:
    # Both forms are compared with torch before they are measured.
    module("deploy_ssm").compare(config(model=MH_SSM), turns=1, short=0.5, long=1.0)
    blocked, real, short, long, growth = lines(capsys)
    assert blocked["nodes"] > real["nodes"] > 10
    assert min(line[side] for line in (short, long) for side in ("ours", "other", "direct_sums")) > 0.0
    assert growth["target"] == 4.0 and growth["ratio"] > 0.0


@pytest.mark.parametrize(("model", "chunk"), [(MH_SSM, 320), (EMFORMER, 160)])
def test_chunks_of_a_stream(
    bench: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: dict[str, Any], chunk: int
) -> None:
    deploy_stream = module("deploy_stream")
    deployed = deploy_stream.deploy(preset(tmp_path, model), tmp_path)
    deploy_stream.compare_ages("tiny", deployed, old=3, turns=1)
    (line,) = lines(capsys)
    assert line["name"].endswith(f"ms of a chunk of {chunk} ms after 3 others and at first")
    assert line["target"] == 1.1 and line["ratio"] > 0.0


def test_searches_in_torch_sherpa_onnx_and_the_program_of_bundles(
    bench: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    decode: ModuleType = module("decode")
    monkeypatch.setattr(decode, "REPEATS", 1)
    monkeypatch.setattr(decode, "NOISE_UTTERANCES", 3)
    monkeypatch.setattr(decode, "PRESET", preset(tmp_path))
    monkeypatch.setattr("sys.argv", ["decode.py", "--corpus-dir", str(tmp_path)])
    threads = torch.get_num_threads()
    try:
        decode.main()
    finally:
        torch.set_num_threads(threads)
    greedy, beam, fastest, floats, int8 = lines(capsys)
    assert greedy["equal_texts"] == beam["equal_texts"] == 1.0
    assert fastest["target"] == 0.8 and fastest["other"] == fastest["torch"] > 0.0
    assert floats["ours"] == fastest["run.py in float"] > 0.0 and int8["other"] == fastest["int8, 1 at a time"] > 0.0
