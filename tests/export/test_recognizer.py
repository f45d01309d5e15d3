"""Bundles through the Python interface."""

from __future__ import annotations

from pathlib import Path

import pytest

import slimasr
from slimasr.experiment import Experiment
from slimasr.export.manifest import read_manifest
from slimasr.export.measure import search_of
from slimasr.results.schema import Int8Entry, Results, SubnetEntry, WerEntry
from slimasr.results.store import update_results
from slimasr.supernet.subnet import Subnet
from tests.decoding.streaming import EMFORMER, write_streaming

for name in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(name)


SMALL = {
    **EMFORMER,
    "encoder": {
        "kind": "mh_ssm",
        "d_model": 8,
        "num_layers": 1,
        "ssm_heads": 2,
        "ssm_state": 2,
        "bidirectional": False,
    },
}


def test_a_bundle_of_streams_in_int8_that_nobody_measured(tmp_path: Path) -> None:
    exp, out = write_streaming(tmp_path, SMALL), tmp_path / "bundle"
    note_measured(exp)
    slimasr.load(exp).export([0.5], out, int8=True, streaming=True, chunk_frames=16)
    manifest = read_manifest(out)
    (size,) = manifest.sizes
    assert manifest.streaming is not None and manifest.streaming.chunk_frames == 16
    assert size.id == "w0.5" and not size.float.forced
    assert size.int8 is not None and size.int8.forced
    # An earlier export measured the same files.
    assert size.int8.wer == {"dev": 40.0}


def note_measured(exp: Path) -> None:
    """Note WERs of int8 in results.json: that of ``test`` was measured with chunks of another length."""
    import onnxruntime

    experiment = Experiment.open(exp)
    rate = {"wer": 40.0, "errors": 4, "words": 10, "ins": 0, "del": 4, "sub": 0, "ser": 50.0, "sentences": 2}
    wer = {}
    for name, chunk in (("dev", 16), ("test", 32)):
        runtime = f"onnxruntime {onnxruntime.__version__}, 8 bits, scales shared by all sizes, chunks of {chunk} frames"
        made_with = (experiment.weights_digest, search_of(experiment), runtime, "0" * 16)
        wer[name] = WerEntry.model_validate({**rate, "ci95": None}).measured_in_int8(*made_with)
    entry = SubnetEntry(subnet=Subnet(0.5), int8=Int8Entry(wer=wer))
    update_results(exp, Results(subnets={"w0.5": entry}))
