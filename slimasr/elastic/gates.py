"""Gates of units, by which elastic layers reweight their parameters (paper 4, the soft masks of step 1).

A module that is reweighted by gates of 0 and 1 computes what it computes with the index set of the units of gate 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Side = Literal["both", "output"]
"""What a gate scales: all parameters of its units, or only those by which the units reach the module's output. With
``both``, the gradient of a gate of 0 is exactly 0, so a gate that has reached 0 stays there."""


def per_unit(gates: Tensor, ranges: Sequence[tuple[int, int]], units: int) -> Tensor:
    """(G,) gates of the groups of a module -> (units,), one gate for every unit.

    Args:
        gates: one per group; any numbers.
        ranges: ``(start, stop)`` of the units of every group.
        units: number of units of the module.

    Raises:
        ValueError: the ranges do not hold every unit of the module once, in order.
    """
    ends = [0, *(stop for _, stop in ranges)]
    if [start for start, _ in ranges] != ends[:-1] or ends[-1] != units:
        raise ValueError(f"groups must hold each of {units} units once, in order; got {list(ranges)}")
    sizes = [stop - start for start, stop in ranges]
    if len(set(sizes)) == 1:
        return gates.repeat_interleave(sizes[0])
    return torch.cat([gate.expand(size) for gate, size in zip(gates.unbind(), sizes, strict=True)])


def shared_gate(gates: Tensor) -> Tensor:
    """(G,) gates of all groups of a module -> the gate of a bias that they share, min(1, sum of the gates).

    It is 1 as soon as one group is complete, and an emptied module leaves no bias behind.
    """
    return gates.sum().clamp(max=1.0)
