"""Candidate generators: which subnets to measure next, given everything measured so far."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from slimasr.config.schema import SearchConfig
from slimasr.search.front import Measurement
from slimasr.supernet.space import SearchSpace
from slimasr.supernet.subnet import Subnet


class Generator(ABC):
    """Proposes subnets of one space.

    A generator sees nothing but the space and the archive of measured subnets, so a search that was killed
    goes on from its results alone. One that mutates or crosses over draws its parents from the archive and
    its random choices from a generator seeded by the recipe and the size of the archive.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    @abstractmethod
    def total(self) -> int:
        """How many subnets will have been measured when the search is over."""

    @abstractmethod
    def propose(self, archive: Mapping[str, Measurement]) -> Sequence[Subnet]:
        """The next subnets to measure, none of them in the archive (keyed by subnet id); empty = the end."""


class Exhaustive(Generator):
    """Every subnet of the space, largest first."""

    def total(self) -> int:
        return self.space.count()

    def propose(self, archive: Mapping[str, Measurement]) -> Sequence[Subnet]:
        return [subnet for subnet in self.space if subnet.id not in archive]


def build_generator(config: SearchConfig, space: SearchSpace) -> Generator:
    """The generator that a recipe names under ``search.kind``."""
    generators: dict[str, type[Generator]] = {"exhaustive": Exhaustive}
    return generators[config.kind](space)
