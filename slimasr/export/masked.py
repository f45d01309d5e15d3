"""Pathways in a bundle: all languages share the weights, and the graph of a language multiplies them by its mask.

The runtime computes the products once, when it loads the file. A mask is stored with one byte for each block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from torch import nn

from slimasr.elastic.blocks import Block
from slimasr.export.packages import needed
from slimasr.export.quantize import SUFFIX
from slimasr.models.pathways import Pathways

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

Blocks = npt.NDArray[np.bool_]


def masks_in(part: nn.Module, model: nn.Module, pathways: Pathways, name: str) -> dict[str, Blocks]:
    """Return the masks of a pathway over the matrices that a part of the model has.

    Args:
        part: the module that is traced, which has some of the model's parameters.
        model: the model.
        pathways: its masks.
        name: the pathway.

    Returns:
        Name of the matrix in the part -> (rows, columns) of its blocks, True = kept. Masks that keep everything are
        left out.
    """
    names = {id(parameter): key for key, parameter in part.named_parameters()}
    found = {}
    for matrix in pathways.matrices:
        key = names.get(id(model.get_parameter(matrix)))
        mask = pathways.mask(name, matrix).cpu().numpy()
        if key is not None and not mask.all():
            found[key] = mask
    return found


def masked(proto: ModelProto, masks: Mapping[str, Blocks], block: Block) -> ModelProto:
    """Return a copy of a graph, in float32 or int8, whose matrices are multiplied by masks.

    Args:
        proto: a result of `slimasr.export.trace.traced` or of `slimasr.export.quantize.quantized`.
        masks: a result of `masks_in`.
        block: outputs and inputs of a block.
    """
    onnx = needed("onnx")
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    graph = copied.graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    new: list[NodeProto] = []
    renamed = {}
    for matrix, mask in masks.items():
        stored = [name for name in (matrix, matrix + SUFFIX) if name in shapes]
        if not stored:
            continue
        graph.initializer.append(onnx.numpy_helper.from_array(mask, f"{matrix}.mask"))
        new += _expanded(matrix, block, shapes[stored[0]], graph)
        for name in stored:
            new += _product(name, matrix, integers=name.endswith(SUFFIX))
            renamed[name] = f"{name}.kept"
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
    nodes = [*new, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return copied


def _expanded(matrix: str, block: Block, shape: tuple[int, ...], graph: GraphProto) -> list[NodeProto]:
    """Return the nodes from the mask of blocks to one of entries, ``<matrix>.entries`` in int32."""
    make = needed("onnx.helper").make_node
    to_tensor = needed("onnx.numpy_helper").from_array
    rows, columns = (-(-size // step) for size, step in zip(shape, block, strict=True))
    constants = {
        "axes": np.array([1, 3]),
        "blocks": np.array([rows, block[0], columns, block[1]]),
        "whole": np.array([rows * block[0], columns * block[1]]),
        "starts": np.zeros(2, dtype=np.int64),
        # The last blocks may reach over the edges.
        "ends": np.array(shape),
    }
    for name, value in constants.items():
        graph.initializer.append(to_tensor(value, f"{matrix}.mask_{name}"))
    at = {name: f"{matrix}.mask_{name}" for name in constants}
    return [
        make("Cast", [f"{matrix}.mask"], [f"{matrix}.mask_numbers"], to=needed("onnx").TensorProto.INT32),
        make("Unsqueeze", [f"{matrix}.mask_numbers", at["axes"]], [f"{matrix}.mask_spread"]),
        make("Expand", [f"{matrix}.mask_spread", at["blocks"]], [f"{matrix}.mask_repeated"]),
        make("Reshape", [f"{matrix}.mask_repeated", at["whole"]], [f"{matrix}.mask_entries"]),
        make("Slice", [f"{matrix}.mask_entries", at["starts"], at["ends"]], [f"{matrix}.entries"]),
    ]


def _product(name: str, matrix: str, *, integers: bool) -> list[NodeProto]:
    """Return the nodes that multiply a matrix by the mask of its entries, as ``<name>.kept``."""
    make = needed("onnx.helper").make_node
    types = needed("onnx").TensorProto
    entries = f"{matrix}.entries"
    if integers:
        # There is no product of int8 numbers.
        return [
            make("Cast", [name], [f"{name}.int32"], to=types.INT32),
            make("Mul", [f"{name}.int32", entries], [f"{name}.kept_int32"]),
            make("Cast", [f"{name}.kept_int32"], [f"{name}.kept"], to=types.INT8),
        ]
    return [
        make("Cast", [entries], [f"{name}.factors"], to=types.FLOAT),
        make("Mul", [name, f"{name}.factors"], [f"{name}.kept"]),
    ]
