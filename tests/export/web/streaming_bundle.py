"""A bundle of a tiny made-up streaming model, and what it computes in torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import linear

from slimasr.data.features.shards import make_extractor
from tests.export.web.bundle import (
    BINS,
    HIDDEN,
    JOINT,
    RATE,
    SUBSAMPLING,
    Declared,
    Graph,
    Weights,
    floats,
    greedy,
    int64,
    write_bundle,
)

CHUNK, WINDOW, TAIL = 8, 11, 0.25
"""Feature frames of a chunk and of what the encoder sees, and seconds of silence at the end."""


def streaming_tokens(weights: Weights, samples: np.ndarray, carrier: str) -> list[int]:
    """Greedy search over all chunks that the utterance and its tail fill."""
    whole = np.pad(samples, (0, round(TAIL * RATE)))
    x = torch.from_numpy(make_extractor(BINS, RATE).extract(whole, RATE))
    past, frames = torch.zeros(JOINT), []
    for first in range(0, len(x) - WINDOW, CHUNK):
        hidden = linear((x[first : first + CHUNK : SUBSAMPLING] + 8) / 4, weights.input).relu()
        out = linear(hidden, weights.output) + past
        if carrier == "conformer":
            out = out + first / 100
        frames.append(out)
        past = out[-1] / 2
    return greedy(weights, torch.cat(frames))


def write_streaming_bundle(folder: Path, weights: Weights, carrier: str) -> None:
    """Write a bundle whose one encoder is fed chunk by chunk."""
    import onnx

    shapes = {"lstm": [[1, 1, JOINT], [1, 1, 1]], "conformer": [[1, 1, 1, JOINT], [1, 0, 1, JOINT]]}[carrier]
    streaming = {
        "carrier": carrier, "chunk_frames": CHUNK, "window_frames": WINDOW, "tail_seconds": TAIL, "states": shapes,
    }  # fmt: skip
    write_bundle(folder, weights, "transducer", streaming=streaming)
    onnx.save(_encoder(weights, shapes, carrier), folder / "encoder.w1.0.onnx")
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    content = (folder / "encoder.w1.0.onnx").read_bytes()
    manifest["sizes"] = manifest["sizes"][:1]
    manifest["files"]["encoder.w1.0.onnx"] = {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    path.write_text(json.dumps(manifest), encoding="utf-8")


def _encoder(weights: Weights, shapes: list[list[int]], carrier: str) -> Any:
    """x (1, WINDOW, BINS), two states, and the frames that came before for one carrier -> frames, the states."""
    from onnx import TensorProto

    graph = Graph()
    file, first = "weights.bin", HIDDEN * BINS * 4
    matrix = graph.stored("input", TensorProto.FLOAT, (HIDDEN, BINS), file, 0, first)
    after = graph.stored("output", TensorProto.FLOAT, (JOINT, HIDDEN), file, first, JOINT * HIDDEN * 4)
    x = graph.add("Slice", "x", int64(0), int64(CHUNK), int64(1), int64(SUBSAMPLING))
    x = graph.add("Div", graph.add("Add", x, floats(8)), floats(4))
    hidden = graph.add("Relu", graph.add("MatMul", x, graph.add("Transpose", matrix, perm=[1, 0])))
    out = graph.add("MatMul", hidden, graph.add("Transpose", after, perm=[1, 0]))
    out = graph.add("Add", out, graph.add("Reshape", "state_0", int64(1, 1, JOINT)))
    states: Declared = {f"state_{i}": (TensorProto.FLOAT, shape) for i, shape in enumerate(shapes)}
    inputs: Declared = {"x": (TensorProto.FLOAT, [1, WINDOW, BINS]), **states}
    if carrier == "conformer":
        before = graph.add("Cast", "processed_lens", to=TensorProto.FLOAT)
        out = graph.add("Add", out, graph.add("Div", before, floats(100)))
        inputs["processed_lens"] = (TensorProto.INT64, [1])
    graph.add("Identity", out, outputs=["out"])
    last = graph.add("Slice", out, int64(-1), int64(2**31), int64(1))
    graph.add("Reshape", graph.add("Div", last, floats(2)), int64(*shapes[0]), outputs=["next_0"])
    graph.add("Identity", "state_1", outputs=["next_1"])
    following: Declared = {f"next_{i}": (TensorProto.FLOAT, shape) for i, shape in enumerate(shapes)}
    return graph.model(inputs, {"out": (TensorProto.FLOAT, [1, CHUNK // SUBSAMPLING, JOINT]), **following})
