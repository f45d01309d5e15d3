"""The entries of a weight's dimension that run: a prefix, or a set of indices."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch import Tensor

from slimasr.supernet.subnet import Units

T = TypeVar("T")
MOST_KEPT = 64
"""Choices of which one layer keeps the indices."""

Index = int | Tensor
"""The first ``k`` entries (a view, no copy), or an int64 tensor of entries (a copy)."""


class IndexTable:
    """The indices that one layer has used, so that each is made once per choice and device.

    They follow from sizes and choices alone, never from weights, so that a layer computes the same with any table. A
    table is emptied when it has `MOST_KEPT` entries, as a search may try any number of subnets.
    """

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}

    def get(self, key: Hashable, device: torch.device, make: Callable[[], T]) -> T:
        """Return what ``make`` returns, an index or an object of indices, on a device.

        Args:
            key: everything that the result depends on besides the layer itself.
            device: the device of the layer's weights.
            make: makes the result on torch's default device.
        """
        if torch.compiler.is_compiling():
            # Compiled graphs hold their own constants, and may not change a table.
            return make()
        place = (key, device)
        found: T | None = self._made.get(place)
        if found is None:
            # Tensors made in inference mode could not be used in training later.
            with torch.inference_mode(False), device:
                found = make()
            if len(self._made) >= MOST_KEPT:
                self._made.clear()
            self._made[place] = found
        return found


def take(weight: Tensor, index: Index | None, dim: int = 0) -> Tensor:
    """Return the entries of one dimension that run; None = all."""
    if index is None:
        return weight
    if isinstance(index, int):
        # The full size needs no view.
        return weight if index == weight.shape[dim] else weight.narrow(dim, 0, index)
    # Not waited for. Indices of an `IndexTable` are on the device already.
    return weight.index_select(dim, index.to(weight.device, non_blocking=True))


def size_of(index: Index) -> int:
    """Return the number of entries that run."""
    return index if isinstance(index, int) else index.numel()


def choose(limit: int, units: Units | None) -> Index:
    """Turn the chosen units into an index, out of the first ``limit``; None = all of these.

    Raises:
        ValueError: a unit is beyond the limit.
    """
    if units is None:
        return limit
    # Number of units that the choice needs: the count of a prefix, or the end of the last range, as ranges rise.
    top = units if isinstance(units, int) else units[-1][1] if units else 0
    if top > limit:
        raise ValueError(f"unit {top - 1} chosen where only {limit} run")
    if isinstance(units, int):
        return units
    return torch.cat([torch.arange(start, stop) for start, stop in units] or [torch.arange(0)])


def in_blocks(index: Index, block: int, kept: int) -> Index:
    """Return the channels of the chosen blocks of ``block`` channels: the first ``kept`` of each block."""
    # Whole blocks from the start are a prefix, which is sliced without a copy.
    if isinstance(index, int) and kept == block:
        return index * block
    blocks = torch.arange(index) if isinstance(index, int) else index
    # (blocks, 1) starts + (kept,) offsets
    return (blocks.unsqueeze(1) * block + torch.arange(kept)).flatten()


def in_groups(index: Index, groups: int, group_size: int) -> Index:
    """Return the same entries of each of ``groups`` stacked groups, such as the two halves of a GLU or [q | k | v]."""
    # Only whole groups are a prefix of the stack; any other choice is an index.
    if isinstance(index, int) and index == group_size:
        return groups * group_size
    entries = torch.arange(index) if isinstance(index, int) else index
    return (torch.arange(groups).unsqueeze(1) * group_size + entries).flatten()
