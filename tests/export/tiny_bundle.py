"""A made-up bundle with random weights, whose files `onnx.helper` makes within milliseconds.

Its decoder and joiner hold the weights of a model of this package, so that searches can be compared. Its encoders are
one convolution each, so that tests can compute what they return.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import soundfile
import torch
from onnx import TensorProto, helper, numpy_helper

from slimasr.export import device
from slimasr.models.build import build_model
from slimasr.models.predictor import StatelessPredictor
from slimasr.models.transducer import Transducer
from tests.tiny import MODEL, VOCAB_SIZE, randomize

PROGRAM = Path(device.__file__)
"""What bundles have as run.py."""

RATE = 8000
BINS = 20
SIZES = {"w1": 1.0, "w0.5": 0.5}
TOKENS = ("<blk>", "<sos/eos>", "<unk>", "\u2581", "\u2581a", "b", "c", "<0xC3>", "<0xA4>")
CHUNK, WINDOW, TAIL = 8, 11, 0.4


def make_model() -> Transducer:
    """The model whose decoder and joiner are in the bundle."""
    torch.manual_seed(4)
    model = build_model(MODEL, None, VOCAB_SIZE, (1.0,))
    assert isinstance(model, Transducer)
    randomize(model)
    return model.eval()


def encoder_weight(outputs: int) -> np.ndarray:
    """(J or V, F, 4): the convolution of all encoders; the width 0.5 reads the first half of the bins."""
    weight = np.random.default_rng(3).standard_normal((2, outputs, BINS // 2, 4)).astype(np.float32) / 4
    # The level of all bins changes nothing, so that many tokens occur.
    weight -= weight.mean(axis=(2, 3), keepdims=True)
    return np.concatenate(list(weight), axis=1)


def make_bundle(folder: Path, kind: str = "transducer", carrier: str | None = None) -> Path:
    """Write a bundle.

    Args:
        folder: where to; it is created.
        kind: ``transducer`` or ``ctc``.
        carrier: ``lstm`` or ``conformer`` for a streaming bundle.
    """
    folder.mkdir(parents=True)
    outputs = MODEL.joiner.dim if kind == "transducer" else VOCAB_SIZE
    weight = encoder_weight(outputs)
    scale = np.abs(weight).max(axis=(1, 2), keepdims=True) / 127
    (folder / "weights.bin").write_bytes(weight.tobytes())
    (folder / "weights.int8.bin").write_bytes(np.round(weight / scale).astype(np.int8).tobytes())
    for name, width in SIZES.items():
        for precision in ("float", "int8"):
            graph = _encoder(outputs, int(width * BINS), scale if precision == "int8" else None, carrier)
            _save(graph, folder / encoder_file(name, precision), _metadata(width, carrier))
    _save(_features(), folder / "features.onnx", {})
    if kind == "transducer":
        _save_decoder_and_joiner(make_model(), folder)
    rows = "".join(f"{token} {number}\n" for number, token in enumerate(TOKENS))
    (folder / "tokens.txt").write_text(rows, encoding="utf-8")
    _write_manifest(folder, kind, carrier)
    return folder


def _metadata(width: float, carrier: str | None) -> dict[str, str]:
    """What sherpa-onnx reads of an encoder, and its subnet."""
    known = {"model_type": carrier or "conformer", "subnet": json.dumps({"width": width})}
    if carrier:
        known |= {"num_encoder_layers": "1", "T": str(WINDOW), "decode_chunk_len": str(CHUNK)}
    if carrier == "lstm":
        known |= {"d_model": str(BINS), "rnn_hidden_size": "1"}
    if carrier == "conformer":
        known |= {"encoder_dim": str(BINS), "left_context": "1", "cnn_module_kernel": "1", "pad_length": "3"}
    return known


def encoder_file(name: str, precision: str) -> str:
    return f"encoder.{name}.onnx" if precision == "float" else f"encoder.{name}.int8.onnx"


def record(folder: Path, names: Sequence[str] = ()) -> None:
    """Write bytes and digests of files (none named = all) into the manifest, as an exporter that made them would."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for name in names or sorted(file.name for file in folder.iterdir() if file != path):
        content = (folder / name).read_bytes()
        manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(manifest), encoding="utf-8")


def change_manifest(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def _write_manifest(folder: Path, kind: str, carrier: str | None) -> None:
    shapes = [[1, 1, BINS], [1, 1, 1]] if carrier == "lstm" else [[1, 1, 1, BINS], [1, 0, 1, BINS]]
    streaming = {"carrier": carrier, "chunk_frames": CHUNK, "window_frames": WINDOW, "tail_seconds": TAIL}
    manifest = {
        "format": "slimasr-bundle",
        "version": 1,
        "kind": kind,
        "model": {"name": "made", "weights": "ab" * 32, "architecture": "cd" * 32},
        "audio": {"sample_rate": RATE, "num_mel_bins": BINS, "frame_shift": 0.01},
        **{"tokens": "tokens.txt", "vocab_size": VOCAB_SIZE, "blank_id": 0, "unk_id": 2},
        **{"context_size": 2 if kind == "transducer" else None, "subsampling_factor": 4},
        "features": "features.onnx",
        "decoder": "decoder.onnx" if kind == "transducer" else None,
        "joiner": "joiner.onnx" if kind == "transducer" else None,
        **{"joiner_int8": None, "graph": None, "languages": None, "revision": None, "versions": {}},
        "streaming": {**streaming, "states": shapes} if carrier else None,
        "sizes": [_size(folder, name, width) for name, width in SIZES.items()],
        "files": {},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    record(folder)


def _size(folder: Path, name: str, width: float) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": name, "subnet": {"width": width}, "language": None}
    entry |= {"params": int(1000 * width), "macs": 2e6 * width}
    for precision, weights in (("float", "weights.bin"), ("int8", "weights.int8.bin")):
        files = {"encoder": encoder_file(name, precision), "weights": weights}
        total = sum((folder / file).stat().st_size for file in files.values())
        entry[precision] = {**files, "bytes": total, "wer": {"dev": 10.0 / width}, "forced": False}
    return entry


def _save(graph: onnx.GraphProto, path: Path, metadata: Mapping[str, str]) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, dict(metadata))
    path.write_bytes(model.SerializeToString())


def _value(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def _constant(name: str, content: Any, dtype: type = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(content, dtype), name)


def _external(name: str, kind: int, shape: Sequence[int], file: str) -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=file)
    return tensor


def _encoder(outputs: int, bins: int, scale: np.ndarray | None, carrier: str | None) -> onnx.GraphProto:
    """The convolution over the first bins with a stride of 4 frames; a state is the sum of all earlier frames."""
    node = helper.make_node
    kind, file = (TensorProto.FLOAT, "weights.bin") if scale is None else (TensorProto.INT8, "weights.int8.bin")
    constants = [_external("stored", kind, (outputs, BINS, 4), file), _constant("first", [0], np.int64)]
    constants += [_constant("bins", [bins], np.int64), _constant("one", [1], np.int64)]
    nodes = [node("Slice", ["stored", "first", "bins", "one"], ["sliced"])]
    weight = "sliced"
    if scale is not None:
        constants.append(_constant("scale", scale))
        nodes += [node("Cast", ["sliced"], ["cast"], to=TensorProto.FLOAT), node("Mul", ["cast", "scale"], ["weight"])]
        weight = "weight"
    if carrier:
        return _streaming(outputs, weight, nodes, constants, carrier)
    constants += [_constant("two", [2], np.int64), _constant("three", 3, np.int64), _constant("four", 4, np.int64)]
    constants.append(_constant("zero", 0.0))
    nodes += [
        node("Slice", ["x", "first", "bins", "two"], ["part"]),
        node("Transpose", ["part"], ["channels"], perm=[0, 2, 1]),
        node("Conv", ["channels", weight], ["out"], strides=[4], pads=[0, 3]),
        node("Transpose", ["out"], ["encoder_out"], perm=[0, 2, 1]),
        node("Add", ["x_lens", "three"], ["more"]),
        node("Div", ["more", "four"], ["encoder_out_lens"]),
    ]
    inputs = [_value("x", TensorProto.FLOAT, "N", "T", BINS), _value("x_lens", TensorProto.INT64, "N")]
    found = [_value("encoder_out", TensorProto.FLOAT, "N", "L", outputs)]
    found.append(_value("encoder_out_lens", TensorProto.INT64, "N"))
    return helper.make_graph(nodes, "encoder", inputs, found, constants)


def _streaming(
    outputs: int, weight: str, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], carrier: str
) -> onnx.GraphProto:
    """Adds the sine of the sum to the first frames of a chunk; ``conformer`` scales them by the cosine of their age."""
    node = helper.make_node
    shape = [1, "N", BINS] if carrier == "lstm" else [1, 1, "N", BINS]
    other = [1, "N", 1] if carrier == "lstm" else [1, 0, "N", BINS]
    constants += [_constant("chunk", [CHUNK], np.int64), _constant("flat", [-1, 1, BINS], np.int64)]
    constants += [_constant("shape", [*shape[:-2], -1, BINS], np.int64)]
    nodes += [
        node("Slice", ["x", "first", "chunk", "one"], ["chunked"]),
        node("Reshape", ["sum", "flat"], ["before"]),
        node("ReduceSum", ["chunked", "one"], ["total"], keepdims=1),
        node("Add", ["before", "total"], ["after"]),
        node("Reshape", ["after", "shape"], ["next_sum"]),
        node("Identity", ["dummy"], ["next_dummy"]),
        node("Sin", ["before"], ["bounded"]),
        node("Add", ["chunked", "bounded"], ["known"]),
    ]
    inputs = [_value("x", TensorProto.FLOAT, "N", WINDOW, BINS), _value("sum", TensorProto.FLOAT, *shape)]
    inputs.append(_value("dummy", TensorProto.FLOAT, *other))
    full = "known"
    if carrier == "conformer":
        inputs.append(_value("processed_lens", TensorProto.INT64, "N"))
        nodes += [
            node("Cast", ["processed_lens"], ["age"], to=TensorProto.FLOAT),
            node("Cos", ["age"], ["factor"]),
            node("Mul", ["known", "factor"], ["aged"]),
        ]
        full = "aged"
    # Slice over axis 2 needs its own constant: the one above is that of the frames.
    constants.append(_constant("bin_axis", [2], np.int64))
    nodes += [
        node("Slice", [full, "first", "bins", "bin_axis"], ["part"]),
        node("Transpose", ["part"], ["channels"], perm=[0, 2, 1]),
        node("Conv", ["channels", weight], ["out"], strides=[4]),
        node("Transpose", ["out"], ["encoder_out"], perm=[0, 2, 1]),
    ]
    found = [_value("encoder_out", TensorProto.FLOAT, "N", "L", outputs)]
    found += [_value("next_sum", TensorProto.FLOAT, *shape), _value("next_dummy", TensorProto.FLOAT, *other)]
    return helper.make_graph(nodes, "encoder", inputs, found, constants)


def _features() -> onnx.GraphProto:
    """Log energies of random filters over 25 ms, every 10 ms."""
    node = helper.make_node
    window, shift = RATE // 40, RATE // 100
    filters = np.random.default_rng(4).standard_normal((BINS, 1, window)) / np.sqrt(window)
    edge = (window - shift) // 2
    nodes = [
        node("Unsqueeze", ["samples", "one"], ["mono"]),
        # As many frames as shifts, rounded
        node("Conv", ["mono", "filters"], ["filtered"], strides=[shift], pads=[edge, edge + shift // 2]),
        node("Mul", ["filtered", "filtered"], ["power"]),
        node("Add", ["power", "floor"], ["safe"]),
        node("Log", ["safe"], ["logarithm"]),
        node("Add", ["logarithm", "offset"], ["channels"]),
        node("Transpose", ["channels"], ["features"], perm=[0, 2, 1]),
    ]
    constants = [_constant("one", [1], np.int64), _constant("filters", filters), _constant("floor", 1e-4)]
    constants.append(_constant("offset", 5.0))
    inputs = [_value("samples", TensorProto.FLOAT, 1, "S")]
    return helper.make_graph(
        nodes, "features", inputs, [_value("features", TensorProto.FLOAT, 1, "T", BINS)], constants
    )


def _save_decoder_and_joiner(model: Transducer, folder: Path) -> None:
    predictor = model.predictor
    assert isinstance(predictor, StatelessPredictor)
    node = helper.make_node
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    nodes = [
        node("Max", ["y", "zero"], ["known"]),
        node("Gather", ["table", "known"], ["rows"]),
        node("GreaterOrEqual", ["y", "zero"], ["is_label"]),
        node("Cast", ["is_label"], ["factor"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["factor", "last"], ["factors"]),
        node("Mul", ["rows", "factors"], ["embedded"]),
        node("Transpose", ["embedded"], ["channels"], perm=[0, 2, 1]),
        node("Conv", ["channels", "filters"], ["filtered"], group=predictor.conv.groups),
        node("Relu", ["filtered"], ["positive"]),
        node("Squeeze", ["positive", "last"], ["out"]),
        node("Gemm", ["out", "weight", "bias"], ["decoder_out"], transB=1),
    ]
    constants = [
        _constant("zero", 0, np.int64),
        _constant("last", [2], np.int64),
        _constant("table", state["predictor.embedding.weight"]),
        _constant("filters", state["predictor.conv.weight"]),
        _constant("weight", state["joiner.predictor_proj.weight"]),
        _constant("bias", state["joiner.predictor_proj.bias"]),
    ]
    dim = MODEL.joiner.dim
    inputs, found = [_value("y", TensorProto.INT64, "N", 2)], [_value("decoder_out", TensorProto.FLOAT, "N", dim)]
    metadata = {"vocab_size": str(VOCAB_SIZE), "context_size": "2"}
    _save(helper.make_graph(nodes, "decoder", inputs, found, constants), folder / "decoder.onnx", metadata)
    nodes = [
        node("Add", ["encoder_out", "decoder_out"], ["sum"]),
        node("Tanh", ["sum"], ["hidden"]),
        node("Gemm", ["hidden", "weight", "bias"], ["logit"], transB=1),
    ]
    constants = [
        _constant("weight", state["joiner.output.weight"]),
        _constant("bias", state["joiner.output.bias"]),
    ]
    inputs = [_value(name, TensorProto.FLOAT, "N", dim) for name in ("encoder_out", "decoder_out")]
    found = [_value("logit", TensorProto.FLOAT, "N", VOCAB_SIZE)]
    _save(helper.make_graph(nodes, "joiner", inputs, found, constants), folder / "joiner.onnx", {})


def run(*words: object) -> subprocess.CompletedProcess[str]:
    """Run the program of a bundle."""
    return subprocess.run([sys.executable, str(PROGRAM), *map(str, words)], capture_output=True, text=True)


def write_wav(path: Path, seconds: float = 2.0, rate: int = RATE) -> Path:
    """Write noise."""
    soundfile.write(path, np.random.default_rng(1).normal(0.0, 0.1, round(seconds * rate)), rate)
    return path


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """Samples of white noise."""
    return np.random.default_rng(seed).normal(0.0, 0.1, round(seconds * RATE))
