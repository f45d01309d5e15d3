"""The layout of ``subnets.json``, the record of the subnets that a training has learnt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from slimasr.results.entry import Entry, File, Genes, Number
from slimasr.supernet.list_space import LearntSubnet


class LearntEntry(Entry):
    """This is a subnet that the training has chosen, or the max subnet."""

    name: str
    """The budget as the recipe wrote it, such as 0.63 or 4 blocks; max for the max subnet."""

    id: str
    """Id of the subnet."""

    subnet: Genes
    """The subnet's genes, as in results.json."""

    budget: Number | None
    """The cost below which the subnet had to stay, in the unit of `method.criterion`; null for max."""

    cost: Number | None
    """What the subnet costs in this unit, as counted; null for max."""

    groups: tuple[str, ...]
    """The groups of parameters that it keeps, such as 0.ffn1[96:192], the units 96 to 191; empty for max."""

    largest_group: Number | None = None
    """What the largest of all groups costs in this unit, which is how far the cost may be below the budget; null for
    max."""

    costs: Mapping[str, Number]
    """Counted costs by name, as in results.json."""

    @classmethod
    def of(cls, learnt: LearntSubnet, costs: Mapping[str, float]) -> LearntEntry:
        """Make the entry of a learnt subnet with these counted costs."""
        return cls(
            name=learnt.name,
            id=learnt.subnet.id,
            subnet=learnt.subnet,
            budget=learnt.budget,
            cost=learnt.cost,
            largest_group=learnt.largest_group,
            groups=tuple(f"{group.key}[{group.start}:{group.stop}]" for group in learnt.groups),
            costs=dict(costs),
        )


class LearntSubnets(File):
    """The training writes the subnets here that it has learnt; later stages read them from the checkpoints."""

    PLACE: ClassVar[str] = "subnets.json"
    ADVICE: ClassVar[str] = "remove it: the checkpoints hold the subnets"

    subnets: tuple[LearntEntry, ...]
    """The subnets, max first, the largest next."""
