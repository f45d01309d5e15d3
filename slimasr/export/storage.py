"""How many bytes pathways take, stored dense, packed and compressed, in float and in int8."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from slimasr.elastic.blocks import Block, expand, pack, pack_bits, union
from slimasr.export.int8 import LEVELS, quantized_weights, scales
from slimasr.models.base import SpeechModel
from slimasr.models.pathways import Pathways
from slimasr.supernet.subnet import Subnet

ALL_IN_ONE = "all in one"
"""The shared weights with the masks of all pathways."""

ONE_EACH = "one each"
"""A packed file for each pathway, together."""


@dataclass(frozen=True)
class StoredBytes:
    """Bytes of the same tensors in four forms.

    Attributes:
        dense: every weight, zeros included; masks, if there are any, one byte per block.
        packed: of masked matrices the kept weights and one bit per block; masks as bits.
        zipped: the dense form, compressed as in a zip file.
        packed_zipped: the packed form, compressed.
    """

    dense: int
    packed: int
    zipped: int
    packed_zipped: int

    def __add__(self, other: StoredBytes) -> StoredBytes:
        sums = [getattr(self, field.name) + getattr(other, field.name) for field in fields(self)]
        return StoredBytes(*sums)


@dataclass(frozen=True)
class Stored:
    """Bytes of a model in float32 and in int8, where matrices and embeddings have one scale per row."""

    floats: StoredBytes
    int8: StoredBytes

    def __add__(self, other: Stored) -> Stored:
        return Stored(self.floats + other.floats, self.int8 + other.int8)


@torch.no_grad()
def storage(model: SpeechModel) -> dict[str, Stored]:
    """Measure what the pathways of a model take, without training-only heads.

    Returns:
        Names of pathways -> each alone; then, if there are several, `ALL_IN_ONE` and `ONE_EACH`.
    """
    pathways = model.pathways
    assert pathways is not None, "only a model with pathways has any to store"
    found: dict[str, Stored] = {}
    for name in pathways.names:
        alone = model.extract(Subnet(pathway=name))
        masks = {matrix: pathways.mask(name, matrix) for matrix in pathways.matrices}
        found[name] = _stored(alone, masks, pathways.block)
    if len(found) > 1:
        each = found.values()
        first, *others = each
        found[ALL_IN_ONE] = _all_in_one(model, pathways)
        found[ONE_EACH] = sum(others, start=first)
    return found


def _all_in_one(model: SpeechModel, pathways: Pathways) -> Stored:
    """Measure the weights that any pathway keeps, with all masks."""
    dense = model.extract(Subnet())
    masks = {matrix: union(pathways.masks(matrix)) for matrix in pathways.matrices}
    for matrix, mask in masks.items():
        weight = dense.get_parameter(matrix)
        weight.masked_fill_(~expand(mask, weight.shape, pathways.block), 0.0)
    return _stored(dense, masks, pathways.block, [pathways.masks(matrix) for matrix in pathways.matrices])


def _stored(model: SpeechModel, masks: Mapping[str, Tensor], block: Block, of_all: Iterable[Tensor] = ()) -> Stored:
    """Measure a stand-alone model.

    Args:
        model: the model.
        masks: the masks of the blocks that are stored, by the names of the matrices.
        block: outputs and inputs of a block.
        of_all: further masks that are stored.
    """
    weights = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    kept = {name: mask.cpu() for name, mask in masks.items()}
    further = [mask.cpu() for mask in of_all]
    rounded = dict(weights)
    for name, weight in quantized_weights(model):
        rounded[f"{name}.scale"] = scales(weight).cpu()
        levels = (weight.cpu() / rounded[f"{name}.scale"].unsqueeze(1)).round().clamp(-LEVELS, LEVELS)
        rounded[name] = levels.to(torch.int8)
    return Stored(*(_bytes(tensors, kept, block, further) for tensors in (weights, rounded)))


def _bytes(
    tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor], block: Block, further: list[Tensor]
) -> StoredBytes:
    rest = [tensor for name, tensor in tensors.items() if name not in masks]
    packed = [part for name, mask in masks.items() for part in pack(tensors[name], mask, block)]
    small = _joined([*rest, *packed, *map(pack_bits, further)])
    large = _joined([*tensors.values(), *further])
    return StoredBytes(len(large), len(small), len(zlib.compress(large)), len(zlib.compress(small)))


def _joined(tensors: Iterable[Tensor]) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in tensors)
