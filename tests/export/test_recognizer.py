"""Bundles through the Python interface."""

from __future__ import annotations

from pathlib import Path

import pytest

import slimasr
from slimasr.export.manifest import read_manifest
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
    slimasr.load(exp).export([0.5], out, int8=True, streaming=True, chunk_frames=16)
    manifest = read_manifest(out)
    (size,) = manifest.sizes
    assert manifest.streaming is not None and manifest.streaming.chunk_frames == 16
    assert size.id == "w0.5" and not size.float.forced
    assert size.int8 is not None and size.int8.forced and size.int8.wer == {}
