"""Pathways in a bundle: all languages share the weights, and the graph of a language has its mask.

The runtime makes the matrices of the language once, when it loads the file. A matrix is stored whole, and multiplied by
the mask, or packed, as the blocks that some language keeps, from which the graph takes those of its language; the form
that needs fewer bytes is chosen. A mask is stored with one byte for each block.
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


def masked(
    proto: ModelProto, masks: Mapping[str, Blocks], block: Block, unions: Mapping[str, Blocks] | None = None
) -> ModelProto:
    """Return a copy of a graph, in float32 or int8, whose matrices have the blocks that masks keep, zeros elsewhere.

    Args:
        proto: a result of `slimasr.export.trace.traced` or of `slimasr.export.quantize.quantized`.
        masks: a result of `masks_in`.
        block: outputs and inputs of a block.
        unions: of each matrix, the blocks that at least one graph with the same file of weights keeps; None = those of
            ``masks``.
    """
    onnx = needed("onnx")
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    graph = copied.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    new: list[NodeProto] = []
    renamed = {}
    for matrix, mask in masks.items():
        for name in (matrix, matrix + SUFFIX):
            if name not in tensors:
                continue
            weights = onnx.numpy_helper.to_array(tensors[name])
            union = mask if unions is None else unions[matrix]
            graph.initializer.append(onnx.numpy_helper.from_array(mask.reshape(-1), f"{name}.mask"))
            if _packed_bytes(weights, union, block) < weights.nbytes:
                new += _unpacked(name, weights, union, block, graph)
                graph.initializer.remove(tensors[name])
            else:
                new += _product(name, weights, mask, block, graph)
            renamed[name] = f"{name}.kept"
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
    nodes = [*new, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return copied


def _packed_bytes(weights: np.ndarray, union: Blocks, block: Block) -> int:
    """Return the bytes that a packed matrix takes: its blocks, one block of zeros, and the mask of these blocks."""
    entries = (int(union.sum()) + 1) * block[0] * block[1]
    return entries * weights.itemsize + union.size


def _unpacked(name: str, weights: np.ndarray, union: Blocks, block: Block, graph: GraphProto) -> list[NodeProto]:
    """Store a matrix packed; return the nodes that put its blocks in their places, as ``<name>.kept``."""
    make = needed("onnx.helper").make_node
    blocks = _blocks_of(weights, block)[union]
    # The first block is zero, for all that the mask leaves out.
    packed = np.concatenate([np.zeros_like(blocks[:1], shape=(1, *block)), blocks])
    at = _constants(name, weights.shape, union.shape, block, graph)
    to_tensor = needed("onnx.numpy_helper").from_array
    graph.initializer.append(to_tensor(packed, f"{name}.packed"))
    graph.initializer.append(to_tensor(union.reshape(-1), f"{name}.union"))
    numbers = needed("onnx").TensorProto.INT32
    return [
        make("Cast", [f"{name}.union"], [f"{name}.union_numbers"], to=numbers),
        make("CumSum", [f"{name}.union_numbers", at["axis"]], [f"{name}.places"]),
        make("Cast", [f"{name}.mask"], [f"{name}.mask_numbers"], to=numbers),
        make("Mul", [f"{name}.places", f"{name}.mask_numbers"], [f"{name}.kept_places"]),
        make("Gather", [f"{name}.packed", f"{name}.kept_places"], [f"{name}.blocks"], axis=0),
        *_put_together(name, f"{name}.blocks", f"{name}.kept", at),
    ]


def _product(name: str, weights: np.ndarray, mask: Blocks, block: Block, graph: GraphProto) -> list[NodeProto]:
    """Return the nodes that multiply a matrix by the mask of its entries, as ``<name>.kept``."""
    make = needed("onnx.helper").make_node
    types = needed("onnx").TensorProto
    at = _constants(name, weights.shape, mask.shape, block, graph)
    graph.initializer.append(needed("onnx.numpy_helper").from_array(np.array([-1, 1, 1]), f"{name}.mask_column"))
    graph.initializer.append(needed("onnx.numpy_helper").from_array(np.array([1, *block]), f"{name}.mask_block"))
    # There is no product of int8 numbers.
    integers = weights.dtype == np.int8
    kind = types.INT32 if integers else types.FLOAT
    nodes = [
        make("Cast", [f"{name}.mask"], [f"{name}.mask_numbers"], to=kind),
        make("Reshape", [f"{name}.mask_numbers", f"{name}.mask_column"], [f"{name}.mask_blocks"]),
        make("Expand", [f"{name}.mask_blocks", f"{name}.mask_block"], [f"{name}.mask_repeated"]),
        *_put_together(name, f"{name}.mask_repeated", f"{name}.entries", at),
    ]
    if not integers:
        return [*nodes, make("Mul", [name, f"{name}.entries"], [f"{name}.kept"])]
    return [
        *nodes,
        make("Cast", [name], [f"{name}.int32"], to=types.INT32),
        make("Mul", [f"{name}.int32", f"{name}.entries"], [f"{name}.kept_int32"]),
        make("Cast", [f"{name}.kept_int32"], [f"{name}.kept"], to=types.INT8),
    ]


def _blocks_of(weights: np.ndarray, block: Block) -> np.ndarray:
    """(outputs, inputs) -> (rows, columns, *block); the last blocks, which may reach over the edges, end with zeros."""
    rows, columns = (-(-size // step) for size, step in zip(weights.shape, block, strict=True))
    over = [(0, count * step - size) for count, step, size in zip((rows, columns), block, weights.shape, strict=True)]
    return np.pad(weights, over).reshape(rows, block[0], columns, block[1]).transpose(0, 2, 1, 3)


def _constants(
    name: str, shape: tuple[int, ...], blocks: tuple[int, ...], block: Block, graph: GraphProto
) -> dict[str, str]:
    """Store the numbers that place blocks in a matrix; return their names."""
    rows, columns = blocks
    constants = {
        "axis": np.array(0),
        "grid": np.array([rows, columns, *block]),
        "whole": np.array([rows * block[0], columns * block[1]]),
        "starts": np.zeros(2, dtype=np.int64),
        # The last blocks may reach over the edges.
        "ends": np.array(shape),
    }
    at = {key: f"{name}.mask_{key}" for key in constants}
    to_tensor = needed("onnx.numpy_helper").from_array
    graph.initializer.extend(to_tensor(value, at[key]) for key, value in constants.items())
    return at


def _put_together(name: str, blocks: str, out: str, at: Mapping[str, str]) -> list[NodeProto]:
    """Return the nodes from all blocks of a matrix, row by row, to the matrix."""
    make = needed("onnx.helper").make_node
    return [
        make("Reshape", [blocks, at["grid"]], [f"{name}.mask_grid_of_blocks"]),
        make("Transpose", [f"{name}.mask_grid_of_blocks"], [f"{name}.mask_rows"], perm=[0, 2, 1, 3]),
        make("Reshape", [f"{name}.mask_rows", at["whole"]], [f"{name}.mask_whole_matrix"]),
        make("Slice", [f"{name}.mask_whole_matrix", at["starts"], at["ends"]], [out]),
    ]
