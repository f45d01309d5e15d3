"""Turns the products of a graph with matrices of weights into products of 8-bit integers.

It is onnxruntime's dynamic scheme: weights are symmetric with one scale per output channel, and the scale of the input
of a product is computed when it runs. A graph that slices a matrix slices the integers of the whole matrix, whose
scales are those of whole rows. So the graphs of all subnets share them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slimasr.export.packages import needed

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

SUFFIX = ".int8"
"""What the name of a matrix ends in once it is rounded."""

VIEWS = ("Slice", "Gather", "Transpose")
"""The operators between a matrix in the file and the product with it, which the runtime computes as it loads a file."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class _Product:
    """A product ``x @ W^T``, and how W follows from a matrix in the file.

    Attributes:
        node: MatMul or Gemm.
        matrix: name of the matrix in the file, whose rows are output channels.
        views: the operators from the matrix to the right side of the product, in running order.
    """

    node: NodeProto
    matrix: str
    views: tuple[NodeProto, ...]


@dataclass
class _Graph:
    """A graph that is being rewritten.

    Attributes:
        constants: its tensors by name.
        makers: name of a value -> the node that makes it.
        rounded: matrices that have been rounded -> scales of their rows.
        nodes: the nodes of the new graph so far.
    """

    constants: dict[str, Array]
    makers: dict[str, NodeProto]
    rounded: dict[str, Array] = field(default_factory=dict)
    nodes: list[NodeProto] = field(default_factory=list)


def quantized(proto: ModelProto, bits: int = 8) -> ModelProto:
    """Return a copy of a graph with int8 weights in its products; convolutions and everything else stay float32.

    Args:
        proto: a result of `slimasr.export.trace.traced`.
        bits: 8, or 7 for processors without dot products of integers, where sums of larger products may saturate.
    """
    onnx = needed("onnx")
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    graph = copied.graph
    state = _Graph(
        constants={tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer},
        makers={name: node for node in graph.node for name in node.output},
    )
    products = {id(found.node): found for found in _products(state, graph.node)}
    levels = 2 ** (bits - 1) - 1
    for node in graph.node:
        found = products.get(id(node))
        if found is None:
            state.nodes.append(node)
        else:
            _rewrite(state, found, levels)
    del graph.node[:]
    graph.node.extend(_used(state.nodes, {value.name for value in graph.output}))
    _replace_constants(copied, state)
    return copied


def _products(state: _Graph, nodes: Any) -> Iterator[_Product]:
    """Yield the products with matrices of weights whose output channels are the rows of a stored matrix."""
    for node in nodes:
        if node.op_type not in ("MatMul", "Gemm"):
            continue
        attributes = {entry.name: entry.i for entry in node.attribute}
        # A matrix that is stored as it stands in the product has its output channels in columns.
        transposed = node.op_type == "Gemm" and attributes.get("transB") == 1
        if node.op_type == "Gemm" and not transposed:
            continue
        views: list[NodeProto] = []
        name = node.input[1]
        while name in state.makers and state.makers[name].op_type in VIEWS:
            maker = state.makers[name]
            if any(other not in state.constants for other in maker.input[1:]):
                break
            views.insert(0, maker)
            name = maker.input[0]
        # Views before a transposition choose rows and columns of the matrix itself, whose rows are output channels.
        transpositions = transposed + sum(view.op_type == "Transpose" for view in views)
        matrix = state.constants.get(name)
        if matrix is not None and matrix.ndim == 2 and matrix.dtype == np.float32 and transpositions == 1:
            yield _Product(node, name, tuple(views))


def _rewrite(state: _Graph, product: _Product, levels: int) -> None:
    """Append the nodes that compute a product in integers."""
    make = needed("onnx.helper").make_node
    scales = _round(state, product.matrix, levels)
    name = product.node.output[0]
    x, scale, zero = _rounded_input(state, product.node.input[0])
    weights = _viewed(state, product, name)
    row_scales = f"{name}.scales"
    state.constants[row_scales] = _scales_of_rows(state, product, scales)
    # With session.x64quantprecision=1, onnxruntime computes exact sums only if the weights have a zero of their own.
    weights_zero = f"{name}.weights_zero"
    state.constants[weights_zero] = np.zeros((), np.int8)
    bias = product.node.input[2] if len(product.node.input) > 2 else ""
    total = f"{name}.product" if bias else name
    state.nodes += [
        make("MatMulInteger", [x, weights, zero, weights_zero], [f"{name}.sums"]),
        make("Cast", [f"{name}.sums"], [f"{name}.floats"], to=needed("onnx").TensorProto.FLOAT),
        make("Mul", [scale, row_scales], [f"{name}.scale"]),
        make("Mul", [f"{name}.floats", f"{name}.scale"], [total]),
    ]
    if bias:
        state.nodes.append(make("Add", [total, bias], [name]))


def _round(state: _Graph, matrix: str, levels: int) -> Array:
    """Add the integers of a matrix to the constants, once; return the scales of its rows."""
    if matrix not in state.rounded:
        weights = state.constants[matrix]
        # Above 0 even for a row of zeros, to divide by.
        scales = np.maximum(np.abs(weights).max(axis=1) / levels, np.finfo(np.float32).tiny).astype(np.float32)
        integers = np.rint(weights / scales[:, None])
        state.constants[matrix + SUFFIX] = np.clip(integers, -levels, levels).astype(np.int8)
        state.rounded[matrix] = scales
    return state.rounded[matrix]


def _rounded_input(state: _Graph, name: str) -> tuple[str, str, str]:
    """Return the names of the integers of an input, of their scale and of their zero; products may share them."""
    names = (f"{name}.uint8", f"{name}.uint8_scale", f"{name}.uint8_zero")
    if names[0] not in state.makers:
        node = needed("onnx.helper").make_node("DynamicQuantizeLinear", [name], list(names))
        state.makers[names[0]] = node
        state.nodes.append(node)
    return names


def _viewed(state: _Graph, product: _Product, name: str) -> str:
    """Append the views of a product for the integers of its matrix; return the name of the right side (in, out)."""
    make = needed("onnx.helper").make_node
    current = product.matrix + SUFFIX
    for number, view in enumerate(product.views):
        copied = needed("onnx").NodeProto()
        copied.CopyFrom(view)
        copied.name = ""
        copied.input[0] = current
        current = f"{name}.weights{number}"
        copied.output[0] = current
        state.nodes.append(copied)
    if product.node.op_type == "Gemm":
        state.nodes.append(make("Transpose", [current], [f"{name}.weights"], perm=[1, 0]))
        current = f"{name}.weights"
    return current


def _scales_of_rows(state: _Graph, product: _Product, scales: Array) -> Array:
    """Return the scales of the output channels of a product, out of those of all rows of its matrix."""
    for view in product.views:
        if view.op_type == "Gather" and _axis(view) == 0:
            scales = scales[state.constants[view.input[1]]]
        elif view.op_type == "Slice":
            starts, ends, *rest = (state.constants[name] for name in view.input[1:] if name)
            axes = rest[0] if rest else np.arange(len(starts))
            steps = rest[1] if len(rest) > 1 else np.ones_like(starts)
            for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
                if axis in (0, -2):
                    scales = scales[start:end:step]
    return scales


def _axis(node: NodeProto) -> int:
    return next((int(entry.i) for entry in node.attribute if entry.name == "axis"), 0)


def _used(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """Return the nodes that some output depends on, in their order."""
    used = set(outputs)
    kept = []
    for node in reversed(nodes):
        if used & set(node.output):
            used |= set(node.input)
            kept.append(node)
    return kept[::-1]


def _replace_constants(proto: ModelProto, state: _Graph) -> None:
    """Remove the constants that no node reads any more, and add the new ones."""
    to_tensor = needed("onnx.numpy_helper").from_array
    used = {name for node in proto.graph.node for name in node.input}
    old = {tensor.name: tensor for tensor in proto.graph.initializer}
    kept = [tensor for name, tensor in old.items() if name in used]
    new = [to_tensor(value, name) for name, value in state.constants.items() if name in used and name not in old]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend([*kept, *new])
