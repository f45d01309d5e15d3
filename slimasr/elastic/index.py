"""The entries of a weight's dimension that run: a prefix, or a set of indices."""

from __future__ import annotations

import torch
from torch import Tensor

from slimasr.supernet.subnet import Units

Index = int | Tensor
"""The first ``k`` entries (a view, no copy), or an int64 tensor of entries (a copy)."""


def take(weight: Tensor, index: Index | None, dim: int = 0) -> Tensor:
    """Return the entries of one dimension that run; None = all."""
    if index is None:
        return weight
    if isinstance(index, int):
        # The full size needs no view.
        return weight if index == weight.shape[dim] else weight.narrow(dim, 0, index)
    # Not waited for: a layer copies its indices several times in every pass.
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
    # Number of units that the choice needs: the count of a prefix, or the highest index plus one.
    top = units if isinstance(units, int) else max((stop for _, stop in units), default=0)
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
    # (blocks, 1) starts + (kept,) offsets; `take` moves the result to the device of the weight.
    return (blocks.unsqueeze(1) * block + torch.arange(kept)).flatten()


def in_groups(index: Index, groups: int, group_size: int) -> Index:
    """Return the same entries of each of ``groups`` stacked groups, such as the two halves of a GLU or [q | k | v]."""
    # Only whole groups are a prefix of the stack; any other choice is an index.
    if isinstance(index, int) and index == group_size:
        return groups * group_size
    entries = torch.arange(index) if isinstance(index, int) else index
    return (torch.arange(groups).unsqueeze(1) * group_size + entries).flatten()
