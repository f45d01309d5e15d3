"""The packed form of block-sparse weights in checkpoints: bits for the blocks that are kept, then their values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from slimasr.elastic.blocks import (
    BITS,
    Block,
    blocks_of,
    kept_weights,
    pack,
    pack_bits,
    unpack,
    unpack_bits,
    used_blocks,
)
from slimasr.models.base import SpeechModel
from slimasr.models.pathways import BUFFERS, kept_of, mark_kept, marked

PACKED = "packed"
"""Key of the packed form in a checkpoint, beside ``model`` with all other tensors."""


def weights_of(model: SpeechModel) -> dict[str, Any]:
    """Return the weights of a model for a checkpoint, packed if it has pathways or is one that was loaded.

    A block of a matrix is left out if all of its bits are 0, so that what `unpacked` returns has every bit of the
    model. At the end of training, these are all blocks that no pathway keeps.
    """
    weights = model.state_dict()
    if model.pathways is not None:
        blocks = dict.fromkeys(model.pathways.matrices, model.pathways.block)
    else:
        blocks = {name: kept.block for name, kept in marked(model).items()}
    if not blocks:
        return {"model": weights}
    masks = {name: _used(weights[name], block) for name, block in blocks.items()}
    # Pathways have blocks of one shape.
    return packed(weights, masks, next(iter(blocks.values())))


def pathway_weights(model: SpeechModel, name: str, alone: SpeechModel) -> dict[str, Any]:
    """Return the weights of a pathway for a checkpoint.

    Args:
        model: the model with the masks of the pathway.
        name: name of the pathway.
        alone: the pathway, cut out of the model.
    """
    pathways = model.pathways
    assert pathways is not None, "only a model with pathways has masks"
    masks = {matrix: pathways.mask(name, matrix) for matrix in pathways.matrices}
    return packed(alone.state_dict(), masks, pathways.block)


def packed(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], block: Block) -> dict[str, Any]:
    """Return weights for a checkpoint, some matrices of them packed, and the masks of pathways as bits.

    All matrices share one tensor of bits and one of values, because each tensor of a file takes some hundred bytes.

    Args:
        weights: the state of a model.
        masks: masks of the blocks of some matrices by their names; the other blocks hold zeros.
        block: outputs and inputs of a block.
    """
    parts = [pack(weights[name], mask, block) for name, mask in masks.items()]
    of_pathways = [name for name in weights if name.startswith(BUFFERS)]
    bits = [bits for bits, _ in parts] + [pack_bits(weights[name]) for name in of_pathways]
    content = {
        "block": list(block),
        "matrices": {name: list(weights[name].shape) for name in masks},
        "masks": {name: list(weights[name].shape) for name in of_pathways},
        "bits": torch.cat(bits),
        "values": torch.cat([values for _, values in parts]),
    }
    rest = {name: weight for name, weight in weights.items() if name not in masks and name not in of_pathways}
    return {"model": rest, PACKED: content}


def unpacked(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint whose ``model`` has all weights in their dense form, bit for bit what was packed.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the packed part is damaged.
    """
    content = saved.get(PACKED)
    if content is None:
        return dict(saved)
    block = _block_of(content)
    reader = _Reader(content["bits"], content["values"])
    weights = dict(saved["model"])
    for name, shape in content["matrices"].items():
        number = math.prod(blocks_of(shape, block))
        bits = reader.bits(number)
        size = kept_weights(unpack_bits(bits, blocks_of(shape, block)), shape, block)
        weights[name] = unpack(bits, reader.values(size), shape, block)
    for name, shape in content["masks"].items():
        weights[name] = unpack_bits(reader.bits(math.prod(shape)), shape)
    reader.check_end()
    return {**saved, "model": weights}


def mark_stored(model: SpeechModel, saved: Mapping[str, Any]) -> None:
    """Tell the layers of a pathway that was loaded from a checkpoint how much of them is stored (`mark_kept`).

    Args:
        model: the stand-alone model. One with pathways of its own counts what each of these keeps instead.
        saved: the checkpoint.
    """
    content = saved.get(PACKED)
    if content is None or model.pathways is not None:
        return
    block = _block_of(content)
    reader = _Reader(content["bits"], content["values"])
    kept = {}
    for name, shape in content["matrices"].items():
        blocks = blocks_of(shape, block)
        kept[name] = kept_of(unpack_bits(reader.bits(math.prod(blocks)), blocks), (shape[0], shape[1]), block)
    mark_kept(model, kept)


class _Reader:
    """Reads bits and values of one matrix after the other."""

    def __init__(self, bits: Tensor, values: Tensor) -> None:
        self._bits = bits
        self._values = values

    def bits(self, number: int) -> Tensor:
        """Return the next bytes, which hold so many bits."""
        size = math.ceil(number / BITS)
        taken, self._bits = self._bits[:size], self._bits[size:]
        return taken

    def values(self, number: int) -> Tensor:
        """Return the next values."""
        taken, self._values = self._values[:number], self._values[number:]
        return taken

    def check_end(self) -> None:
        """Raise ValueError if anything is left."""
        if len(self._bits) or len(self._values):
            raise ValueError(f"{len(self._bits)} bytes and {len(self._values)} values too many")


def _block_of(content: Mapping[str, Any]) -> Block:
    outputs, inputs = content["block"]
    return outputs, inputs


def _used(weight: Tensor, block: Block) -> Tensor:
    """Return the mask of the blocks that hold anything besides +0.0; -0.0 has a bit that is not 0."""
    return used_blocks((weight != 0) | weight.signbit(), block)
