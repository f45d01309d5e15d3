"""A bundle of a tiny made-up supernet, in the layout of docs/bundle.md, and what it computes in torch.

Three widths share one file of weights: each graph slices them. The networks are so simple that they are written down
twice, as ONNX nodes and as lines of torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding, linear

from slimasr.data.features.shards import make_extractor
from slimasr.export.features import features_model

RATE, BINS, HIDDEN, JOINT, VOCAB_SIZE = 16000, 20, 32, 24, 30
WIDTHS = (1.0, 0.5, 0.25)
SUBSAMPLING = 4
BLANK, UNK = 0, 2
OWN = f"w{WIDTHS[-1]}."
"""In the names of files that the smallest size alone uses."""
SYMBOLS = ["<blk>", "<sos/eos>", "<unk>", "▁", "<0xC3>", "<0xA9>", *(chr(ord("a") + i) for i in range(24))]

Declared = dict[str, tuple[int, list[Any]]]
"""Inputs or outputs of a graph: name -> type and shape."""


@dataclass(frozen=True)
class Weights:
    """The supernet's weights."""

    input: Tensor  # (HIDDEN, BINS)
    output: Tensor  # (JOINT, HIDDEN)
    embedding: Tensor  # (VOCAB_SIZE, JOINT)
    joiner: Tensor  # (VOCAB_SIZE, JOINT)
    bias: Tensor  # (VOCAB_SIZE,)


def draw_weights(blank: float) -> Weights:
    """Random weights, with the bias of blank by which about half of the frames have tokens."""
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

    bias = torch.zeros(VOCAB_SIZE)
    bias[BLANK] = blank
    # The mean of the features is about -8, and their deviation 4.
    return Weights(
        3 * draw(HIDDEN, BINS), 3 * draw(JOINT, HIDDEN), draw(VOCAB_SIZE, JOINT) * 4, draw(VOCAB_SIZE, JOINT), bias
    )


def hidden_units(width: float) -> int:
    return round(HIDDEN * width)


def encode(weights: Weights, samples: np.ndarray, width: float) -> Tensor:
    """(T', JOINT) frames of one utterance, with lhotse's features."""
    x = torch.from_numpy(make_extractor(BINS, RATE).extract(samples, RATE))
    units = hidden_units(width)
    hidden = linear((x[::SUBSAMPLING] + 8) / 4, weights.input[:units]).relu()
    return linear(hidden, weights.output[:, :units])


def transducer_tokens(weights: Weights, samples: np.ndarray, width: float) -> list[int]:
    """Tokens of the transducer at a width."""
    return greedy(search_weights(weights, width), encode(weights, samples, width))


def search_weights(weights: Weights, width: float) -> Weights:
    """The smallest size has a decoder and a joiner of its own, as pathways may have."""
    if width != WIDTHS[-1]:
        return weights
    return replace(weights, embedding=-weights.embedding, joiner=weights.joiner.flip(1))


def greedy(weights: Weights, frames: Tensor) -> list[int]:
    """Greedy search of at most one token per frame."""
    tokens: list[int] = []
    for frame in frames:
        context = torch.tensor([-1, BLANK, *tokens][-2:])
        known = embedding(context.clamp(min=0), weights.embedding) * (context >= 0).unsqueeze(1)
        logits = linear((frame + known.mean(0)).relu(), weights.joiner, weights.bias)
        token = int(logits.argmax())
        if token not in (BLANK, UNK):
            tokens.append(token)
    return tokens


def ctc_tokens(weights: Weights, samples: np.ndarray, width: float) -> list[int]:
    """The best token of each frame, without repetitions and blanks."""
    best = linear(encode(weights, samples, width), weights.joiner, weights.bias).argmax(-1)
    return [token for token in torch.unique_consecutive(best).tolist() if token not in (BLANK, UNK)]


def text_of(tokens: Sequence[int]) -> str:
    """The text of tokens: "é" is two of them."""
    symbols = {4: b"\xc3", 5: b"\xa9", 3: b" "}
    return b"".join(symbols.get(token, SYMBOLS[token].encode()) for token in tokens).decode(errors="replace").strip()


def write_bundle(folder: Path, weights: Weights, kind: str, **changes: Any) -> None:
    """Write all files of a bundle but the page; ``changes`` are made to the manifest."""
    import onnx

    folder.mkdir(parents=True, exist_ok=True)
    matrices = {"input": weights.input.numpy(), "output": weights.output.numpy()}
    (folder / "weights.bin").write_bytes(b"".join(matrix.tobytes() for matrix in matrices.values()))
    scale = float(weights.input.abs().max()) / 127
    rounded = (weights.input / scale).round().to(torch.int8).numpy()
    (folder / "weights.int8.bin").write_bytes(rounded.tobytes() + matrices["output"].tobytes())
    onnx.save(features_model(make_extractor(BINS, RATE).config), folder / "features.onnx")
    for width in WIDTHS:
        onnx.save(_encoder(weights, width, kind, None), folder / f"encoder.w{width}.onnx")
        onnx.save(_encoder(weights, width, kind, scale), folder / f"encoder.w{width}.int8.onnx")
    if kind == "transducer":
        for name, made in (("", weights), (OWN, search_weights(weights, WIDTHS[-1]))):
            onnx.save(_decoder(made), folder / f"decoder.{name}onnx")
            onnx.save(_joiner(made), folder / f"joiner.{name}onnx")
    lines = [f"{symbol} {token}" for token, symbol in enumerate(SYMBOLS)]
    (folder / "tokens.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    manifest = _manifest(folder, kind) | changes
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def _manifest(folder: Path, kind: str) -> dict[str, Any]:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    transducer = kind == "transducer"

    def precision(width: float, suffix: str, wer: float) -> dict[str, Any]:
        names = (f"encoder.w{width}.{suffix}onnx", f"weights.{suffix}bin")
        used = sum(len(files[name]) for name in names)
        return {"encoder": names[0], "weights": names[1], "bytes": used, "wer": {"dev": wer}, "forced": False}

    sizes = [
        {
            "id": f"w{width}",
            "subnet": {"width": width},
            "language": None,
            "params": 2_000_000 + round(8_000_000 * width),
            "macs": 1e8 * width,
            **{
                part: f"{part}.{OWN}onnx" if transducer and width == WIDTHS[-1] else None
                for part in ("decoder", "joiner")
            },
            "float": precision(width, "", 8.0 + 2 / width),
            "int8": precision(width, "int8.", 8.1 + 2 / width) if width < 1 else None,
        }
        for width in WIDTHS
    ]
    return {
        "format": "slimasr-bundle",
        "version": 1,
        "kind": kind,
        "model": {"name": "made-up", "weights": "0" * 64, "architecture": "1" * 64},
        "audio": {"sample_rate": RATE, "num_mel_bins": BINS, "frame_shift": 0.01},
        "tokens": "tokens.txt",
        "vocab_size": VOCAB_SIZE,
        "blank_id": BLANK,
        "unk_id": UNK,
        "context_size": 2 if transducer else None,
        "subsampling_factor": SUBSAMPLING,
        "features": "features.onnx",
        "decoder": "decoder.onnx" if transducer else None,
        "joiner": "joiner.onnx" if transducer else None,
        "joiner_int8": None,
        "graph": None,
        "streaming": None,
        "languages": None,
        "sizes": sizes,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
        "versions": {},
        "revision": None,
    }


class Graph:
    """An ONNX graph that grows node by node."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str | np.ndarray, outputs: Sequence[str] = (), **attributes: Any) -> str:
        """Add a node, whose constants are given as arrays, and name its (first) output."""
        from onnx import helper, numpy_helper

        names = []
        for value in inputs:
            if isinstance(value, np.ndarray):
                names.append(f"c{len(self.constants)}")
                self.constants.append(numpy_helper.from_array(value, names[-1]))
            else:
                names.append(value)
        made = list(outputs) or [f"n{len(self.nodes)}"]
        self.nodes.append(helper.make_node(operator, names, made, **attributes))
        return made[0]

    def stored(self, name: str, kind: int, shape: tuple[int, ...], file: str, offset: int, length: int) -> str:
        """Add a constant that lies in a file beside the graph."""
        from onnx import TensorProto
        from onnx.external_data_helper import set_external_data

        tensor = TensorProto(name=name, data_type=kind, dims=shape)
        tensor.raw_data = b" "
        set_external_data(tensor, file, offset, length)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        self.constants.append(tensor)
        return name

    def model(self, inputs: Declared, outputs: Declared) -> Any:
        from onnx import helper

        before, after = (
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in values.items()]
            for values in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, "made_up", before, after, initializer=self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def int64(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def _encoder(weights: Weights, width: float, kind: str, scale: float | None) -> Any:
    """x (N, T, BINS), x_lens (N) -> (N, T', JOINT), or a CTC model's log-probabilities; int8 where there is a scale."""
    from onnx import TensorProto

    graph = Graph()
    units = int64(hidden_units(width))
    file, kind_of_input, item = ("weights.bin", TensorProto.FLOAT, 4)
    if scale is not None:
        file, kind_of_input, item = ("weights.int8.bin", TensorProto.INT8, 1)
    first = HIDDEN * BINS * item
    matrix = graph.stored("input", kind_of_input, (HIDDEN, BINS), file, 0, first)
    after = graph.stored("output", TensorProto.FLOAT, (JOINT, HIDDEN), file, first, JOINT * HIDDEN * 4)
    x = graph.add("Slice", "x", int64(0), int64(2**31), int64(1), int64(SUBSAMPLING))
    x = graph.add("Div", graph.add("Add", x, floats(8)), floats(4))
    matrix = graph.add("Transpose", graph.add("Slice", matrix, int64(0), units, int64(0)), perm=[1, 0])
    if scale is None:
        x = graph.add("MatMul", x, matrix)
    else:
        graph.add("DynamicQuantizeLinear", x, outputs=["rounded", "step", "zero"])
        product = graph.add("MatMulInteger", "rounded", matrix, "zero")
        x = graph.add("Mul", graph.add("Cast", product, to=TensorProto.FLOAT), graph.add("Mul", "step", floats(scale)))
    after = graph.add("Transpose", graph.add("Slice", after, int64(0), units, int64(1)), perm=[1, 0])
    lens = graph.add("Add", "x_lens", int64(SUBSAMPLING - 1))
    if kind == "ctc":
        logits = graph.add("MatMul", graph.add("MatMul", graph.add("Relu", x), after), weights.joiner.T.numpy().copy())
        graph.add("LogSoftmax", graph.add("Add", logits, weights.bias.numpy()), axis=-1, outputs=["out"])
    else:
        graph.add("MatMul", graph.add("Relu", x), after, outputs=["out"])
    graph.add("Div", lens, int64(SUBSAMPLING), outputs=["lens"])
    size = VOCAB_SIZE if kind == "ctc" else JOINT
    return graph.model(
        {"x": (TensorProto.FLOAT, ["N", "T", BINS]), "x_lens": (TensorProto.INT64, ["N"])},
        {"out": (TensorProto.FLOAT, ["N", "S", size]), "lens": (TensorProto.INT64, ["N"])},
    )


def _decoder(weights: Weights) -> Any:
    """y (N, 2) -> (N, JOINT): the mean of the embeddings, 0 for -1."""
    from onnx import TensorProto

    graph = Graph()
    rows = graph.add("Gather", weights.embedding.numpy(), graph.add("Max", "y", int64(0)))
    known = graph.add("Cast", graph.add("GreaterOrEqual", "y", int64(0)), to=TensorProto.FLOAT)
    rows = graph.add("Mul", rows, graph.add("Unsqueeze", known, int64(2)))
    graph.add("ReduceMean", rows, int64(1), keepdims=0, outputs=["decoder_out"])
    return graph.model({"y": (TensorProto.INT64, ["N", 2])}, {"decoder_out": (TensorProto.FLOAT, ["N", JOINT])})


def _joiner(weights: Weights) -> Any:
    """Two times (N, JOINT) -> (N, VOCAB_SIZE)."""
    from onnx import TensorProto

    graph = Graph()
    joint = graph.add("Relu", graph.add("Add", "encoder_out", "decoder_out"))
    logits = graph.add("MatMul", joint, weights.joiner.T.numpy().copy())
    graph.add("Add", logits, weights.bias.numpy(), outputs=["logit"])
    part = (TensorProto.FLOAT, ["N", JOINT])
    return graph.model({"encoder_out": part, "decoder_out": part}, {"logit": (TensorProto.FLOAT, ["N", VOCAB_SIZE])})
