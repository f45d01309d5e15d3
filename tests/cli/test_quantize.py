"""Int8 files and their WER through the command line."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from slimasr.cli.common import command_app
from slimasr.cli.quantize import run
from slimasr.experiment.checkpoints import fingerprint
from slimasr.results.schema import Results, SubnetEntry
from slimasr.results.search import FoundEntry, Front
from slimasr.results.store import update_results
from slimasr.supernet.subnet import Subnet
from tests.results.kit import results_json
from tests.search.untrained import make_data, make_experiment

with_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra export is not installed",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data/`` and an untrained supernet ``exp/`` whose front is its narrow subnet."""
    root = tmp_path_factory.mktemp("quantize")
    exp = make_experiment(root / "exp", make_data(root), [0.5, 1.0])
    found = FoundEntry(id="w0.5", subnet=Subnet(0.5), wer=10.0, dev_loss=1.0, costs={})
    Front(set_name="dev", cost="params", weights=fingerprint(exp / "final.pt"), front=(found,)).write(exp)
    return root


def quantize(place: Path, *options: str) -> Result:
    return CliRunner().invoke(command_app(run), [str(place / "exp"), "--data", str(place / "data"), *options])


@with_onnx
def test_front_is_measured_once_and_recorded(place: Path) -> None:
    update_results(place / "exp", Results(subnets={"w0.5": SubnetEntry(subnet=Subnet(0.5), costs={"params": 1})}))
    result = quantize(place)
    assert result.exit_code == 0, result.output
    entry = results_json(place / "exp")["subnets"]["w0.5"]
    files = sorted((place / "exp" / "export" / "w0.5").iterdir())
    assert [file.name for file in files] == ["encoder.int8.onnx", "joiner.int8.onnx", "predictor.int8.onnx"]
    assert entry["int8"]["bytes"] == sum(file.stat().st_size for file in files)
    assert entry["int8"]["runtime"].startswith("onnxruntime 1.")
    assert {name: figures["words"] for name, figures in entry["int8"]["wer"].items()} == {"dev": 10, "test": 6}
    assert entry["costs"] == {"params": 1}
    assert "w0.5 test: WER" in result.output

    before = {file: file.stat().st_mtime_ns for file in files}
    again = quantize(place, "--subnet", "w0.5", "--set-name", "test")
    assert again.exit_code == 0, again.output
    assert "w0.5 test: WER" in again.output
    assert {file: file.stat().st_mtime_ns for file in files} == before
    assert results_json(place / "exp")["subnets"]["w0.5"] == entry


def test_missing_package_names_the_extra(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = quantize(place, "--subnet", "max")
    assert result.exit_code == 1
    assert "onnxruntime is not installed: pip install 'slimasr[export]'" in result.output


def test_unknown_subnets_and_missing_fronts(place: Path, tmp_path: Path) -> None:
    result = quantize(place, "--subnet", "0.3")
    assert result.exit_code == 1
    assert "choose one of: w1, w0.5" in result.output
    make_experiment(tmp_path / "exp", place / "data", [1.0])
    result = CliRunner().invoke(command_app(run), [str(tmp_path / "exp"), "--data", str(place / "data")])
    assert result.exit_code == 1
    assert "has no front yet: run stage 5 (slimasr-search) first" in result.output
