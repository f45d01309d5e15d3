"""The search space that is a finite list of subnets, such as the branches of a tree (paper 3)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slimasr.supernet.space import Gene, SearchSpace
from slimasr.supernet.subnet import Subnet

BRANCH = "branch"
"""Name of the only gene: the place of a subnet in the list."""


@dataclass(frozen=True)
class BranchSpace(SearchSpace):
    """A list of subnets of one width. Where they come from is known to whoever makes the list.

    Attributes:
        subnets: the subnets, all different, the largest first.
        names: short names, one per subnet, by which users can choose them besides their ids; may be empty.
    """

    subnets: tuple[Subnet, ...]
    names: tuple[str, ...] = ()

    @property
    def max(self) -> Subnet:
        return self.subnets[0]

    @property
    def min(self) -> Subnet:
        return self.subnets[-1]

    @property
    def widths(self) -> tuple[float, ...]:
        return (self.subnets[0].width,)

    def count(self) -> int:
        return len(self.subnets)

    def __iter__(self) -> Iterator[Subnet]:
        return iter(self.subnets)

    def __contains__(self, subnet: object) -> bool:
        return subnet in self.subnets

    @property
    def genes(self) -> dict[str, tuple[Gene, ...]]:
        return {BRANCH: tuple(range(len(self.subnets)))}

    def genes_of(self, subnet: Subnet) -> dict[str, Gene]:
        return {BRANCH: self.subnets.index(subnet)}

    def from_genes(self, genes: Mapping[str, Gene]) -> Subnet:
        return self.subnets[int(genes[BRANCH])]

    def sample(self, rng: random.Random) -> Subnet:
        return rng.choice(self.subnets)

    def mutate(self, subnet: Subnet, rng: random.Random, probability: float) -> Subnet:
        return self.sample(rng) if rng.random() < probability else subnet

    def crossover(self, a: Subnet, b: Subnet, rng: random.Random) -> Subnet:
        return rng.choice((a, b))

    def describe(self) -> dict[str, Any]:
        # Places in a list would be the same for any other list of this length.
        return {name: subnet.to_dict() for name, subnet in zip(self._labels(), self.subnets, strict=True)}

    def _read(self, text: str) -> Subnet | None:
        if text in self.names:
            return self.subnets[self.names.index(text)]
        return super()._read(text)

    def _hint(self) -> str:
        return f"choose one of: max, min, {', '.join(self._labels())}"

    def _labels(self) -> tuple[str, ...]:
        return self.names or tuple(subnet.id for subnet in self.subnets)
