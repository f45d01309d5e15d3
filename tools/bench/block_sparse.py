"""One linear layer of which 8x1 blocks are zero, in the runtimes at hand: what sparsity saves besides bytes.

Layers of paper 5's feed-forward modules, 512 to 2048 channels and back. For every sparsity and number of frames, a line
has the microseconds of every runtime: dense weights and weights with zeros in torch and onnxruntime, in float32 and
int8; zeros in CSR (torch); zeros in the sparse layer of QNNPACK, which has kernels for 8x1 blocks on ARM and for 1x4
blocks on x86; and, where there is a C compiler, a loop over the blocks that are left. One thread, processor time, one
layer alone, whose weights stay in the caches; the runtimes take turns, and the fastest turn of each counts. The loop
has a target where at least 70 % are zero: half of onnxruntime's dense float time at 32 frames.

    python tools/bench/block_sparse.py [--tiny]
"""

from __future__ import annotations

import argparse
import ctypes
import io
import logging
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import report, report_figures
from step import fastest
from torch import Tensor

from slimasr.elastic.blocks import expand, select
from slimasr.export.packages import needed

Call = Callable[[], object]
Block = tuple[int, int]
BLOCK: Block = (8, 1)
ROWS = BLOCK[0]
TARGET_FRAMES, TARGET_SPARSITY, TARGET = 32, 0.7, 0.5
C_SOURCE = """
typedef float outputs __attribute__((vector_size(32)));  /* the 8 entries of a block */
typedef float frames __attribute__((vector_size(64)));   /* 16 frames of an input */

/* y = x W^T, (T, O) = (T, I) (I, O): w has the blocks that are left, first[r] ... first[r + 1] - 1 those of the rows
   8 r ... 8 r + 7 of W, and input[b] is the column of block b. */

static void sixteen(int rows, int inputs, const int *first, const int *input, const float *w, const float *x,
                    float *y) {
  frames columns[inputs];
  for (int i = 0; i < inputs; i++)
    for (int t = 0; t < 16; t++) columns[i][t] = x[(long)t * inputs + i];
  for (int r = 0; r < rows / 8; r++) {
    frames sums[8] = {0};
    for (int b = first[r]; b < first[r + 1]; b++)
      for (int o = 0; o < 8; o++) sums[o] += w[8 * b + o] * columns[input[b]];
    for (int t = 0; t < 16; t++)
      for (int o = 0; o < 8; o++) y[(long)t * rows + 8 * r + o] = sums[o][t];
  }
}

static inline __attribute__((always_inline)) void few(const int number, int rows, int inputs, const int *first,
                                                      const int *input, const float *w, const float *x, float *y) {
  for (int r = 0; r < rows / 8; r++) {
    outputs sums[4] = {0};
    for (int b = first[r]; b < first[r + 1]; b++)
      for (int t = 0; t < number; t++) sums[t] += ((const outputs *)w)[b] * x[(long)t * inputs + input[b]];
    for (int t = 0; t < number; t++) *(outputs *)(y + (long)t * rows + 8 * r) = sums[t];
  }
}

void multiply(int number, int rows, int inputs, const int *first, const int *input, const float *w, const float *x,
              float *y) {
  for (int t = 0; t < number;) {
    const float *from = x + (long)t * inputs;
    float *to = y + (long)t * rows;
    if (number - t >= 16) sixteen(rows, inputs, first, input, w, from, to), t += 16;
    else if (number - t >= 4) few(4, rows, inputs, first, input, w, from, to), t += 4;
    else few(1, rows, inputs, first, input, w, from, to), t += 1;
  }
}
"""


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        shapes: outputs and inputs of the layers.
        sparsities: shares of the blocks that are zero.
        frames: numbers of frames of a call.
        turns: turns of every runtime.
        macs: products of a turn, which repeats its call until it has so many.
    """

    shapes: tuple[tuple[int, int], ...] = ((2048, 512), (512, 2048))
    sparsities: tuple[float, ...] = (0.5, 0.7, 0.9)
    frames: tuple[int, ...] = (1, 4, 32, 250)
    turns: int = 15
    macs: float = 3e8


TINY = Sizes(((32, 16), (16, 24)), (0.7,), (1, 32), turns=1, macs=1.0)


@dataclass(frozen=True)
class Layer:
    """A dense weight and the same with zeros, both (O, I), and the input of a call, (T, I)."""

    dense: Tensor
    zeros: Tensor
    x: Tensor


def make_layer(shape: tuple[int, int], sparsity: float, frames: int, block: Block = BLOCK) -> Layer:
    """Return a random layer whose blocks of the smallest norms are zero."""
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(*shape, generator=generator) / shape[1] ** 0.5
    zeros = dense * expand(select(dense, sparsity, block), shape, block)
    return Layer(dense, zeros, torch.randn(frames, shape[1], generator=generator))


def torch_float(weight: Tensor, x: Tensor) -> Call:
    """The product of torch's linear layers."""
    return lambda: F.linear(x, weight)


def torch_int8(weight: Tensor, x: Tensor) -> Call:
    """The same with weights in int8 and one scale per output; activations are rounded in the call."""
    scales = weight.abs().amax(dim=1).clamp(min=1e-6) / 127
    rounded = torch.quantize_per_channel(weight, scales, torch.zeros(len(weight), dtype=torch.int64), 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(rounded, None)
    return lambda: torch.ops.quantized.linear_dynamic(x, packed)


def torch_csr(weight: Tensor, x: Tensor) -> Call:
    """Zeros left out one by one, with the frames as columns, which is the faster of torch's two products."""
    sparse, columns = weight.to_sparse_csr(), x.T.contiguous()
    return lambda: (sparse @ columns).T


def qnnpack_block() -> Block | None:
    """Return the blocks for which QNNPACK has a kernel on this machine, None if torch is built without it."""
    if "qnnpack" not in torch.backends.quantized.supported_engines:
        return None
    return BLOCK if platform.machine().lower() in ("aarch64", "arm64") else (1, 4)


def qnnpack(weight: Tensor, x: Tensor, block: Block) -> Call:
    """Torch's sparse layer in int8, with one scale; it only computes while QNNPACK is torch's engine."""
    scale = float(weight.abs().max()) / 127
    rounded = torch.quantize_per_tensor(weight, scale, 0, torch.qint8)
    packed = with_qnnpack(lambda: torch.ops.sparse.qlinear_prepack(rounded, None, *block))
    return lambda: with_qnnpack(lambda: torch.ops.sparse.qlinear_dynamic(x, packed))


def with_qnnpack(call: Callable[[], Any]) -> Any:
    """Run a call with QNNPACK as torch's engine."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "qnnpack"
    try:
        return call()
    finally:
        torch.backends.quantized.engine = before


def onnx_session(weight: Tensor, *, int8: bool) -> Any:
    """Return onnxruntime's session of one product with a constant, with one thread."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    onnxruntime, quantization = needed("onnxruntime"), needed("onnxruntime.quantization")
    outputs, inputs = weight.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", outputs])],
        [numpy_helper.from_array(weight.T.contiguous().numpy(), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if int8:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "int8.onnx"
            quantization.quantize_dynamic(model, path, per_channel=True, weight_type=quantization.QuantType.QInt8)
            model = onnx.load(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    file = io.BytesIO()
    onnx.save(model, file)
    return onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])


def onnx_float(weight: Tensor, x: Tensor) -> Call:
    """The product in onnxruntime."""
    session, feed = onnx_session(weight, int8=False), {"x": x.numpy()}
    return lambda: session.run(None, feed)[0]


def onnx_int8(weight: Tensor, x: Tensor) -> Call:
    """The same with weights in int8 and one scale per output."""
    session, feed = onnx_session(weight, int8=True), {"x": x.numpy()}
    return lambda: session.run(None, feed)[0]


def compiled_loop(folder: Path) -> Any | None:
    """Compile the loop over blocks; None without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    source, library = folder / "loop.c", folder / "loop.so"
    source.write_text(C_SOURCE)
    command = [compiler, "-O3", "-march=native", "-shared", "-fPIC", "-Wno-psabi", "-o", str(library), str(source)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library)).multiply


def c_loop(multiply: Any, weight: Tensor, x: Tensor) -> Call:
    """The loop on the blocks of a weight that are not zero."""
    outputs, inputs = weight.shape
    # (O / 8, I, 8): the entries of a block together
    blocks = weight.numpy().reshape(outputs // ROWS, ROWS, inputs).transpose(0, 2, 1)
    kept = blocks.any(axis=2)
    first = np.concatenate([[0], kept.sum(axis=1).cumsum()]).astype(np.int32)
    column = kept.nonzero()[1].astype(np.int32)
    values = aligned(blocks[kept])
    source, out = x.numpy(), aligned(np.zeros((len(x), outputs), np.float32))
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (first, column, values, source, out)]

    def call() -> np.ndarray:
        multiply(len(source), outputs, inputs, *pointers)
        return out

    return call


def aligned(values: np.ndarray, step: int = 64) -> np.ndarray:
    """Copy an array to an address that is a multiple of ``step`` bytes, as vectors of C need it."""
    memory = np.empty(values.nbytes + step, np.uint8)
    start = -memory.ctypes.data % step
    copy = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[:] = values
    return copy


def runtimes(
    shape: tuple[int, int], sparsity: float, frames: int, multiply: Any | None
) -> dict[str, tuple[Call, Tensor]]:
    """Return by name the call of every runtime, and the (T, O) product that it approximates."""
    layer = make_layer(shape, sparsity, frames)
    found: dict[str, tuple[Call, Tensor]] = {}
    makers = {"torch": torch_float, "torch_int8": torch_int8, "onnx": onnx_float, "onnx_int8": onnx_int8}
    for name, make in makers.items():
        for kind, weight in (("dense", layer.dense), ("zeros", layer.zeros)):
            found[f"{name}_{kind}"] = make(weight, layer.x), layer.x @ weight.T
    found["torch_csr"] = torch_csr(layer.zeros, layer.x), layer.x @ layer.zeros.T
    block = qnnpack_block()
    if block is not None:
        other = make_layer(shape, sparsity, frames, block)
        found["qnnpack_{}x{}".format(*block)] = qnnpack(other.zeros, other.x, block), other.x @ other.zeros.T
    if multiply is not None:
        found["c_loop"] = c_loop(multiply, layer.zeros, layer.x), layer.x @ layer.zeros.T
    return found


def check(name: str, call: Call, want: Tensor) -> None:
    """Stop if a runtime computes something else.

    Raises:
        SystemExit: the product is wrong.
    """
    error = (torch.as_tensor(call()) - want).norm() / want.norm()
    if error > (0.05 if "int8" in name or "qnnpack" in name else 1e-5):
        raise SystemExit(f"{name}: the product is wrong by {float(error):.2g}")


def repeated(call: Call, number: int) -> Call:
    """Return a call that calls so many times."""

    def calls() -> None:
        for _ in range(number):
            call()

    return calls


def measure(sizes: Sizes) -> None:
    """Print a line for every layer, sparsity and number of frames, and the loop against its target."""
    with tempfile.TemporaryDirectory() as folder:
        multiply = compiled_loop(Path(folder))
        for shape in sizes.shapes:
            for sparsity in sizes.sparsities:
                for frames in sizes.frames:
                    compare(sizes, shape, sparsity, frames, multiply)


def compare(sizes: Sizes, shape: tuple[int, int], sparsity: float, frames: int, multiply: Any | None) -> None:
    """Measure all runtimes on one layer."""
    found = runtimes(shape, sparsity, frames, multiply)
    for name, (call, want) in found.items():
        check(name, call, want)
    number = max(1, round(sizes.macs / (shape[0] * shape[1] * frames)))
    seconds = fastest([repeated(call, number) for call, _ in found.values()], sizes.turns)
    microseconds = {name: 1e6 * value / number for name, value in zip(found, seconds, strict=True)}
    title = f"{shape[0]}x{shape[1]}, {sparsity:.0%} of 8x1 blocks zero, {frames} frames"
    report_figures(f"{title}, microseconds", **microseconds)
    if multiply is not None:
        ours, other = microseconds["c_loop"], microseconds["onnx_dense"]
        target = TARGET if frames == TARGET_FRAMES and sparsity >= TARGET_SPARSITY else None
        report(f"{title}, loop in C against dense float, microseconds", ours, other, ours / other, target)


def main() -> None:
    """Measure the layers of the paper."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny layers, to see whether everything runs")
    # Both quantisations warn of newer ways that need more packages.
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    measure(TINY if parser.parse_args().tiny else Sizes())


if __name__ == "__main__":
    main()
