"""Operators of models that the exporter traces once and puts wherever they occur, since tracing them takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from slimasr.elastic.blocked import OPERATOR, SIZES, convolve_both
from slimasr.export.packages import needed
from slimasr.export.parts import Part

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

TraceFunction = Callable[[Part], "ModelProto"]


def replaced(proto: ModelProto, trace: TraceFunction) -> ModelProto:
    """Return a graph in which the operators are replaced by what they compute.

    Args:
        proto: a graph.
        trace: traces a module.
    """
    onnx = needed("onnx")
    domain, operator = OPERATOR.split("::")
    nodes = [node for node in proto.graph.node if node.domain == domain]
    if not nodes:
        return proto
    made: dict[str, Any] = {}
    for node in nodes:
        sizes = _sizes(node)
        node.op_type = "_".join([operator, *map(str, sizes)])
        del node.attribute[:]
        if node.op_type not in made:
            made[node.op_type] = _function(domain, node.op_type, _traced(sizes, trace))
    del proto.opset_import[:]
    versions = {"": next(iter(made.values())).opset_import[0].version, domain: 1}
    proto.opset_import.extend(onnx.helper.make_opsetid(name, version) for name, version in versions.items())
    proto.functions.extend(made.values())
    inlined: ModelProto = needed("onnx.inliner").inline_local_functions(proto)
    others = [entry for entry in inlined.opset_import if entry.domain != domain]
    del inlined.opset_import[:]
    inlined.opset_import.extend(others)
    return inlined


def _sizes(node: NodeProto) -> tuple[int, ...]:
    """Return the values of `SIZES`."""
    found = {entry.name: entry.i for entry in node.attribute}
    return tuple(found[name] for name in SIZES)


class _Convolve(nn.Module):
    """`convolve_both` as a module."""

    def __init__(self, bidirectional: bool) -> None:
        super().__init__()
        self.bidirectional = bidirectional

    def forward(
        self, u: Tensor, log_dt: Tensor, log_decay: Tensor, frequency: Tensor, readout: Tensor, skip: Tensor
    ) -> Tensor:
        return convolve_both(u, log_dt, log_decay, frequency, readout, skip, self.bidirectional)


def _traced(sizes: tuple[int, ...], trace: TraceFunction) -> ModelProto:
    """Trace `OPERATOR` at some values of `SIZES`."""
    channels, pairs, systems = sizes
    # Any length would do.
    inputs = {
        "u": torch.zeros(2, 203, channels),
        "log_dt": torch.zeros(systems),
        "log_decay": torch.zeros(systems, pairs),
        "frequency": torch.zeros(systems, pairs),
        "readout": torch.zeros(systems, pairs, 2),
        "skip": torch.zeros(systems),
    }
    return trace(Part(_Convolve(systems > channels), inputs, {"u": (0, 1)}, ("out",), {}))


def _function(domain: str, name: str, proto: ModelProto) -> Any:
    """Turn a graph into a function, which holds the constants of the graph."""
    make = needed("onnx.helper")
    graph = proto.graph
    constants = _constants(graph.initializer)
    return make.make_function(
        domain,
        name,
        [value.name for value in graph.input],
        [value.name for value in graph.output],
        [*constants, *graph.node],
        [entry for entry in proto.opset_import if entry.domain == ""],
    )


def _constants(tensors: Iterable[TensorProto]) -> list[NodeProto]:
    """Return nodes that make the constants of a graph, since functions have nothing else."""
    make_node = needed("onnx.helper").make_node
    return [make_node("Constant", [], [tensor.name], value=tensor) for tensor in tensors]
