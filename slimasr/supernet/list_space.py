"""The search space that is a finite list of subnets: the branches of a tree (paper 3), a list in the recipe, or the
subnets that a training has learnt (paper 4)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slimasr.errors import UserError
from slimasr.supernet.groups import Group
from slimasr.supernet.space import Gene, SearchSpace
from slimasr.supernet.subnet import Subnet

MAX_NAME = "max"


@dataclass(frozen=True)
class LearntSubnet:
    """A subnet that a training has chosen.

    Attributes:
        name: the budget as the recipe wrote it (`Budget.name`), such as ``0.63`` or ``4 blocks``; ``max`` for max.
        subnet: the subnet.
        budget: the cost below which the subnet had to stay, in the unit of the method's criterion; None for max.
        cost: what it costs in this unit, as counted; None where there is no budget.
        groups: the groups that it keeps, for the record; empty for max.
        largest_group: what the largest of all groups costs in this unit, for the record; None where there is no budget.
    """

    name: str
    subnet: Subnet
    budget: float | None = None
    cost: float | None = None
    groups: tuple[Group, ...] = ()
    largest_group: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain data for a checkpoint, without the groups, which the subnet's index sets hold as well."""
        return {"name": self.name, "subnet": self.subnet.to_dict(), "budget": self.budget, "cost": self.cost}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LearntSubnet:
        """Read what `to_dict` returns.

        Raises:
            ValueError: the subnet is not one (see `Subnet.from_dict`).
        """
        return cls(str(data["name"]), Subnet.from_dict(data["subnet"]), data["budget"], data.get("cost"))


@dataclass(frozen=True)
class ListSpace(SearchSpace):
    """A list of subnets. Where they come from is known to whoever makes the list.

    Attributes:
        subnets: the subnets, all different, the largest first.
        names: short names, one per subnet, by which users can choose them besides their ids; may be empty.
        aliases: further names of subnets of the list.
        gene: name of the only gene, the place of a subnet in the list.
        pending: why the list holds only max as yet, for error messages; empty if it is complete.
    """

    subnets: tuple[Subnet, ...]
    names: tuple[str, ...] = ()
    aliases: tuple[tuple[str, Subnet], ...] = ()
    gene: str = "subnet"
    pending: str = ""

    @property
    def max(self) -> Subnet:
        return self.subnets[0]

    @property
    def min(self) -> Subnet:
        return self.subnets[-1]

    @property
    def widths(self) -> tuple[float, ...]:
        return tuple(sorted({subnet.width for subnet in self.subnets}, reverse=True))

    @property
    def pathways(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(subnet.pathway for subnet in self.subnets if subnet.pathway))

    def count(self) -> int:
        return len(self.subnets)

    def __iter__(self) -> Iterator[Subnet]:
        return iter(self.subnets)

    def __contains__(self, subnet: object) -> bool:
        return subnet in self.subnets

    @property
    def genes(self) -> dict[str, tuple[Gene, ...]]:
        return {self.gene: tuple(range(len(self.subnets)))}

    def genes_of(self, subnet: Subnet) -> dict[str, Gene]:
        return {self.gene: self.subnets.index(subnet)}

    def from_genes(self, genes: Mapping[str, Gene]) -> Subnet:
        return self.subnets[int(genes[self.gene])]

    def sample(self, rng: random.Random) -> Subnet:
        return rng.choice(self.subnets)

    def mutate(self, subnet: Subnet, rng: random.Random, probability: float) -> Subnet:
        return self.sample(rng) if rng.random() < probability else subnet

    def crossover(self, a: Subnet, b: Subnet, rng: random.Random) -> Subnet:
        return rng.choice((a, b))

    def describe(self) -> dict[str, Any]:
        # Places in a list would be the same for any other list of this length.
        return {name: subnet.to_dict() for name, subnet in zip(self._labels(), self.subnets, strict=True)}

    def parse(self, text: str) -> Subnet:
        # Of a list that is not there yet only max is known; min is not, although the list has a last entry.
        if self.pending and not self._means_max(text.strip()):
            raise UserError(f"subnet {text!r}: {self.pending}")
        return super().parse(text)

    def _means_max(self, text: str) -> bool:
        try:
            return text != "min" and self._read(text) == self.max
        except ValueError:
            return False

    def _read(self, text: str) -> Subnet | None:
        # Before widths: the name 0.63 is a budget here.
        named = {**dict(self.aliases), **dict(zip(self.names, self.subnets, strict=False))}
        if text in named:
            return named[text]
        return super()._read(text)

    def _hint(self) -> str:
        return f"choose one of: {', '.join(dict.fromkeys([MAX_NAME, 'min', *self._labels()]))}"

    def _labels(self) -> tuple[str, ...]:
        return self.names or tuple(subnet.id for subnet in self.subnets)


def learnt_space(learnt: Sequence[LearntSubnet], pending: str = "") -> ListSpace:
    """Return the space of learnt subnets, which have the names of their budgets.

    Args:
        learnt: max first, the largest next; empty = they have not been learnt yet, and the space is max alone.
        pending: why they have not, for error messages.
    """
    if not learnt:
        return ListSpace((Subnet(),), (MAX_NAME,), pending=pending or "the training has not chosen its subnets yet")
    # Budgets that are closer than a group may have become one subnet, which then has the names of both.
    first = {item.subnet: item.name for item in reversed(learnt)}
    subnets = tuple(dict.fromkeys(item.subnet for item in learnt))
    aliases = tuple((item.name, item.subnet) for item in learnt if item.name != first[item.subnet])
    return ListSpace(subnets, tuple(first[subnet] for subnet in subnets), aliases)
