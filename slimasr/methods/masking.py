"""Operations on masked matrices during training: new masks, weights set to zero, gradients, figures (paper 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from slimasr.elastic.blocks import block_norms, block_sizes, expand, residual, select, union
from slimasr.models.base import SpeechModel
from slimasr.models.pathways import Pathways

Masks = dict[str, Tensor]
"""Name of a matrix -> a mask of its blocks, or of its entries."""


def pathways_of(model: SpeechModel) -> Pathways:
    """Return the masks of a model that has pathways."""
    assert model.pathways is not None, "space.kind: pathways gives the model its masks"
    return model.pathways


@torch.no_grad()
def chosen(model: SpeechModel, name: str, sparsity: float, *, gains: bool) -> Masks:
    """Choose the mask of a pathway by the norms of blocks (paper 5, sections 2.1 and 2.3); nothing is changed yet.

    Args:
        name: the pathway.
        sparsity: share of the blocks of every matrix that is pruned.
        gains: whether blocks may be chosen that no other pathway keeps, besides those of its present mask.
    """
    pathways = pathways_of(model)
    number = pathways.names.index(name)
    found = {}
    for matrix in pathways.matrices:
        masks = pathways.masks(matrix)
        allowed = residual(masks, number) if gains else masks[number]
        found[matrix] = select(model.get_parameter(matrix), sparsity, pathways.block, allowed)
    return found


def replace_masks(pathways: Pathways, name: str, masks: Masks) -> float:
    """Replace the mask of a pathway, and return the share of its kept blocks that it loses."""
    lost = 0
    kept = 0
    for matrix, mask in masks.items():
        before = pathways.mask(name, matrix)
        lost += int((before & ~mask).sum())
        kept += int(before.sum())
        pathways.set_mask(name, matrix, mask)
    return lost / max(1, kept)


def unused(pathways: Pathways) -> Masks:
    """Return the entries of every matrix that no pathway keeps."""
    found = {}
    for matrix in pathways.matrices:
        kept = union(pathways.masks(matrix))
        found[matrix] = expand(~kept, pathways.shape(matrix), pathways.block)
    return found


@torch.no_grad()
def set_zero(model: SpeechModel, entries: Masks) -> None:
    """Set entries of the matrices of a model to +0."""
    for matrix, mask in entries.items():
        model.get_parameter(matrix).masked_fill_(mask, 0.0)


def lasso_gradient(weight: Tensor, mask: Tensor, block: tuple[int, int]) -> Tensor:
    """Return the gradient of the sum of the norms of the blocks that a mask keeps (group lasso; paper 5, section 2.1).

    The norms are those by which blocks are compared (`block_norms`). Of a block of zeros, where a norm has no gradient,
    it is 0.

    Args:
        weight: (O, I).
        mask: mask of its blocks.
        block: outputs and inputs of a block.
    """
    norms = block_norms(weight, block)
    # A short block counts as a full one of equal mean square: its norm is c |w|, of which the gradient is c^2 w / norm.
    factors = block[0] * block[1] / block_sizes(weight.shape, block).to(norms)
    factors = torch.where(mask & (norms > 0), factors / norms, 0.0)
    return (weight * expand(factors, weight.shape, block)).to(weight.dtype)


class EntryMasks:
    """The masks of a model's entries, made from those of blocks once per change of these.

    In a step of a pathway, the weights of its mask run and are trained; while masks adapt, those that no other pathway
    keeps as well.
    """

    def __init__(self) -> None:
        self._made_from: list[tuple[Tensor, int]] = []
        self._found: dict[tuple[str, bool], Masks] = {}

    def of(self, pathways: Pathways, name: str, *, gains: bool) -> Masks:
        """Return the (O, I) masks of a pathway, by matrix; empty if everything is kept.

        Args:
            name: the pathway.
            gains: whether weights that no other pathway keeps are among them.
        """
        # The counter of a tensor grows with every change of its values, in whatever way they are changed.
        made_from = [(masks, masks._version) for masks in map(pathways.masks, pathways.matrices)]
        if not self._is_from(made_from):
            self._made_from = made_from
            self._found = {}
        if (name, gains) not in self._found:
            self._found[name, gains] = self._expanded(pathways, name, gains=gains)
        return self._found[name, gains]

    def _is_from(self, now: list[tuple[Tensor, int]]) -> bool:
        pairs = zip(self._made_from, now, strict=False)
        same = all(old is new and before == version for (old, before), (new, version) in pairs)
        return same and len(now) == len(self._made_from)

    def _expanded(self, pathways: Pathways, name: str, *, gains: bool) -> Masks:
        number = pathways.names.index(name)
        found = {}
        for matrix in pathways.matrices:
            masks = pathways.masks(matrix)
            blocks = residual(masks, number) if gains else masks[number]
            found[matrix] = expand(blocks, pathways.shape(matrix), pathways.block)
        return {} if all(bool(mask.all()) for mask in found.values()) else found


class Flattened:
    """All masks of a model as one row of blocks per pathway, with the numbers of weights of the blocks; on the CPU."""

    def __init__(self, names: tuple[str, ...], masks: Mapping[str, Tensor], pathways: Pathways) -> None:
        """Take the (L, rows, columns) masks of the matrices of a model."""
        self.names = names
        shapes = [pathways.shape(matrix) for matrix in pathways.matrices]
        self.sizes = torch.cat([block_sizes(shape, pathways.block).flatten() for shape in shapes])
        self.rows = torch.cat([masks[matrix].cpu().flatten(1) for matrix in pathways.matrices], dim=1)

    @classmethod
    def of(cls, pathways: Pathways) -> Flattened:
        """Take the present masks of a model."""
        return cls(pathways.names, {matrix: pathways.masks(matrix) for matrix in pathways.matrices}, pathways)

    @property
    def weights(self) -> int:
        """Number of weights that masks cover."""
        return int(self.sizes.sum())

    def count(self, blocks: Tensor) -> int:
        """Count the weights of some blocks, a bool mask of all."""
        return int(self.sizes[blocks].sum())

    @property
    def union(self) -> int:
        """Number of weights that at least one pathway keeps."""
        return self.count(union(self.rows))

    def sparsity(self, name: str) -> float:
        """Return the share of the weights that a pathway prunes."""
        return 1.0 - self.count(self.rows[self.names.index(name)]) / self.weights

    def overlap(self, first: Tensor, second: Tensor) -> dict[str, float]:
        """Compare two rows: the share of equal entries, and what both keep by the mean of what each keeps."""
        kept = self.count(first) + self.count(second)
        common = 2.0 * self.count(first & second) / kept if kept else 1.0
        return {"entries": self.count(first == second) / self.weights, "kept": common}


def union_ratios(flat: Flattened, params: int) -> tuple[float, float]:
    """Return the share of weights that some pathway keeps: of those that masks cover, and of all weights of a model.

    Args:
        params: all weights of the model; what masks do not cover is kept by every pathway.
    """
    return flat.union / flat.weights, (flat.union + params - flat.weights) / params


def mask_facts(flat: Flattened, params: int) -> dict[str, Any]:
    """Return what results.json says of masks: their sizes, and what every two of them have in common."""
    of_prunable, of_all = union_ratios(flat, params)
    pairs = [(a, b) for number, a in enumerate(flat.names) for b in flat.names[number + 1 :]]
    rows = dict(zip(flat.names, flat.rows, strict=True))
    return {
        "prunable": flat.weights,
        "blocks": len(flat.sizes),
        "params": params,
        "union": of_prunable,
        "union_all": of_all,
        "sparsity": {name: flat.sparsity(name) for name in flat.names},
        "overlaps": [{"a": a, "b": b, **flat.overlap(rows[a], rows[b])} for a, b in pairs],
    }
