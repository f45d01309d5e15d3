"""Bundles and self-contained files of one subnet through the command line: named in JSON, or found within limits."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from slimasr.cli.common import command_app
from slimasr.cli.export import run
from slimasr.experiment import Experiment
from slimasr.experiment.checkpoints import fingerprint
from slimasr.export.manifest import read_manifest
from slimasr.results.search import Candidates, FoundEntry
from slimasr.supernet.subnet import Subnet
from tests.search.untrained import make_data, make_experiment
from tests.tiny import encoder_config, features

if [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]:
    pytest.skip("the extra export is not installed", allow_module_level=True)

import onnx
import onnxruntime

from tests.export.test_graphs import products_saturate

HALF = Subnet(0.5)


@dataclass(frozen=True)
class Routes:
    """An experiment, a bundle with weights of 7 bits, and the same size in self-contained files with 8 bits."""

    exp: Path
    bundle: Path
    alone: Path

    def encoder(self, folder: Path, *, int8: bool = False) -> Path:
        return folder / f"encoder.{HALF.id}{'.int8' if int8 else ''}.onnx"


def export(exp: Path, out: Path, *options: str) -> Result:
    result = CliRunner().invoke(command_app(run), [str(exp), "--out", str(out), "--int8", "--force", *options])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> Routes:
    """Nobody measures the int8 files, because the folder of data is not there."""
    root = tmp_path_factory.mktemp("routes")
    exp = make_experiment(root / "exp", make_data(root), [0.5, 1.0], encoder=encoder_config(num_layers=1))
    model = Experiment.open(exp).model
    found = [
        FoundEntry(id=subnet.id, subnet=subnet, wer=wer, dev_loss=1.0, costs={"params": model.count(subnet).params})
        for subnet, wer in ((HALF, 20.0), (Subnet(), 10.0))
    ]
    weights = fingerprint(exp / "final.pt")
    Candidates(set_name="dev", cost="params", weights=weights, candidates=tuple(found)).write(exp)
    unmeasured = ("--data", str(root / "no"))
    export(exp, root / "bundle", *unmeasured, "--subnet", json.dumps({"width": 0.5}), "--int8-bits", "7")
    fewer = model.count(Subnet()).params - 1
    export(exp, root / "alone", *unmeasured, "--standalone", "--max-params", str(fewer))
    return Routes(exp, root / "bundle", root / "alone")


def test_subnets_are_named_in_json_or_by_what_they_may_cost(routes: Routes) -> None:
    for folder in (routes.bundle, routes.alone):
        manifest = read_manifest(folder)
        # The largest subnet has the lowest error rate, and too many parameters.
        assert [size.id for size in manifest.sizes] == [HALF.id]
        assert all(size.int8 is not None and size.int8.forced for size in manifest.sizes)


def test_limits_that_nothing_meets(routes: Routes, tmp_path: Path) -> None:
    words = [str(routes.exp), "--out", str(tmp_path / "none"), "--max-params", "10"]
    result = CliRunner().invoke(command_app(run), words)
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1
    assert "params" in result.stderr and HALF.id in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_self_contained_encoders_open_from_bytes_alone(routes: Routes) -> None:
    x, x_lens = features((90, 61), bins=80)
    given = {"x": x.numpy(), "x_lens": x_lens.numpy()}
    bundled = onnxruntime.InferenceSession(str(routes.encoder(routes.bundle))).run(None, given)
    files = sorted(routes.alone.glob("*.onnx"))
    sessions = {file.name: onnxruntime.InferenceSession(file.read_bytes()) for file in files}
    encoders = {"encoder.w0.5.int8.onnx", "encoder.w0.5.onnx"}
    assert sessions.keys() == {*encoders, "decoder.onnx", "features.onnx", "joiner.onnx"}
    alone = sessions[routes.encoder(routes.alone).name].run(None, given)
    for ours, theirs in zip(alone, bundled, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-4)
    if not products_saturate():
        rounded = sessions[routes.encoder(routes.alone, int8=True).name].run(None, given)[0]
        assert 0 < rms(rounded - bundled[0]) < 0.1 * bundled[0].std()
    # There, the weights are in another file, and whoever has the bytes alone has no weights.
    assert not list(routes.alone.glob("*.bin"))
    for int8 in (False, True):
        with pytest.raises(Exception, match="weights"):
            onnxruntime.InferenceSession(routes.encoder(routes.bundle, int8=int8).read_bytes())


def test_weights_of_7_bits_have_127_levels_and_are_close_on_every_processor(routes: Routes) -> None:
    rounded = [tensor for tensor in int8_tensors(routes.encoder(routes.bundle, int8=True)) if tensor.size > 1]
    assert len(rounded) >= 5
    assert {int(np.abs(tensor.astype(int)).max()) for tensor in rounded} == {63}
    levels = [tensor for tensor in int8_tensors(routes.encoder(routes.alone, int8=True)) if tensor.size > 1]
    assert {int(np.abs(tensor.astype(int)).max()) for tensor in levels} == {127}
    x, x_lens = features((90,), seed=2, bins=80)
    given = {"x": x.numpy(), "x_lens": x_lens.numpy()}
    floats, integers = (
        onnxruntime.InferenceSession(str(routes.encoder(routes.bundle, int8=int8))).run(None, given)[0]
        for int8 in (False, True)
    )
    assert 0 < rms(floats - integers) < 0.1 * floats.std()


def int8_tensors(path: Path) -> list[np.ndarray]:
    """All int8 tensors of a file."""
    tensors = onnx.load(path).graph.initializer
    return [onnx.numpy_helper.to_array(one) for one in tensors if one.data_type == onnx.TensorProto.INT8]


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))
