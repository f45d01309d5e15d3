"""The groups of an encoder's parameters, and its parameters reweighted by their gates (paper 4)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, cast

from torch import Tensor, nn

from slimasr.config.encoder_section import EncoderSection
from slimasr.elastic.gates import Side
from slimasr.supernet.groups import Group, groups_of

Granularity = Literal["component", "layer"]
"""What a group is: a chunk of feed-forward channels, a head or a convolution module, or a whole module."""


class Gated(Protocol):
    """An elastic module whose units have gates."""

    def reweight(self, gates: Tensor, ranges: Sequence[tuple[int, int]], side: Side) -> dict[str, Tensor]:
        """Return name -> parameter of this module, reweighted by the gates of its groups.

        Args:
            gates: (G,) one per group.
            ranges: ``(start, stop)`` of the units of every group, which hold each unit once, in order.
            side: what a gate scales.

        Raises:
            ValueError: the ranges do not hold every unit once, in order.
        """


def encoder_groups(config: EncoderSection, granularity: Granularity) -> list[Group]:
    """Return the groups of the max subnet in running order; a module that a layer lacks has none.

    Raises:
        ValueError: a module cannot be cut into its smallest groups.
    """
    if granularity == "component":
        config.check_groups()
    groups = []
    for layer in config.paths[0]:
        for module, size in config.group_sizes.items():
            units = config.layer_units[layer][module]
            if units:
                whole = granularity == "layer" or size is None
                groups += groups_of(layer, module, units, 1 if whole or size is None else units // size)
    return groups


def reweighted(
    encoder: nn.Module, name_of: Callable[[int, str], str], gates: Tensor, groups: Sequence[Group], side: Side
) -> dict[str, Tensor]:
    """Return name -> reweighted parameter, for all modules that have groups.

    Args:
        encoder: the owner of the parameters, to which names are relative.
        name_of: layer and module -> name of the module.
        gates: (N,) one per group.
        groups: those of `encoder_groups`.
        side: what a gate scales.

    Raises:
        ValueError: the groups of a module do not stand together, or not each unit is in one of them.
    """
    runs = [(key, list(run)) for key, run in itertools.groupby(groups, lambda group: (group.layer, group.module))]
    tensors: dict[str, Tensor] = {}
    for ((layer, module), run), part in zip(runs, gates.split([len(run) for _, run in runs]), strict=True):
        name = name_of(layer, module)
        owner = cast(Gated, encoder.get_submodule(name))
        found = owner.reweight(part, [(group.start, group.stop) for group in run], side)
        tensors |= {f"{name}.{parameter}": value for parameter, value in found.items()}
    return tensors
