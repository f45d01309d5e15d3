"""Search spaces: which subnets exist, and how to draw, vary and name them."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from slimasr.config.schema import WidthSpaceConfig
from slimasr.errors import UserError
from slimasr.supernet.subnet import Subnet


class SearchSpace(ABC):
    """All subnets a supernet is trained for. Random choices come from the caller's generator alone."""

    @property
    @abstractmethod
    def max(self) -> Subnet:
        """The subnet with all weights active."""

    @property
    @abstractmethod
    def min(self) -> Subnet:
        """The smallest subnet."""

    @property
    @abstractmethod
    def widths(self) -> tuple[float, ...]:
        """Every width that occurs, descending: per-width norms exist for these."""

    @abstractmethod
    def count(self) -> int:
        """Number of different subnets."""

    @abstractmethod
    def __iter__(self) -> Iterator[Subnet]:
        """All subnets, largest first. Check `count` before iterating over a combinatorial space."""

    @abstractmethod
    def __contains__(self, subnet: object) -> bool:
        """Whether the subnet is one of this space."""

    @abstractmethod
    def sample(self, rng: random.Random) -> Subnet:
        """A subnet drawn uniformly over genes."""

    @abstractmethod
    def mutate(self, subnet: Subnet, rng: random.Random, probability: float) -> Subnet:
        """A copy in which each gene is drawn anew with the given probability."""

    @abstractmethod
    def crossover(self, a: Subnet, b: Subnet, rng: random.Random) -> Subnet:
        """A child that takes each gene from either parent."""

    def parse(self, text: str) -> Subnet:
        """The subnet meant by a width (``0.5``), an id (``w0.5``), ``max``, ``min`` or JSON.

        Raises:
          UserError: no subnet of this space is meant.
        """
        try:
            subnet = self._read(text.strip())
        except ValueError as error:
            raise UserError(f"subnet {text!r}: {error}; {self._hint()}") from None
        if subnet is None or subnet not in self:
            raise UserError(f"subnet {text!r} is not in the search space; {self._hint()}")
        return subnet

    def _read(self, text: str) -> Subnet | None:
        if text in ("max", "min"):
            return self.max if text == "max" else self.min
        if text.startswith("{"):
            return Subnet.from_json(text)
        try:
            return Subnet(width=float(text))
        except ValueError:
            return next((s for s in self if s.id == text), None)

    def _hint(self) -> str:
        return f"choose one of: {', '.join(s.id for s in self)}"


@dataclass(frozen=True)
class WidthSpace(SearchSpace):
    """Subnets that differ in width alone (paper 1)."""

    choices: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(sorted(set(self.choices), reverse=True)))

    @property
    def max(self) -> Subnet:
        return Subnet(self.choices[0])

    @property
    def min(self) -> Subnet:
        return Subnet(self.choices[-1])

    @property
    def widths(self) -> tuple[float, ...]:
        return self.choices

    def count(self) -> int:
        return len(self.choices)

    def __iter__(self) -> Iterator[Subnet]:
        return (Subnet(w) for w in self.choices)

    def __contains__(self, subnet: object) -> bool:
        return isinstance(subnet, Subnet) and subnet.width in self.choices and subnet == Subnet(subnet.width)

    def sample(self, rng: random.Random) -> Subnet:
        return Subnet(rng.choice(self.choices))

    def mutate(self, subnet: Subnet, rng: random.Random, probability: float) -> Subnet:
        return self.sample(rng) if rng.random() < probability else subnet

    def crossover(self, a: Subnet, b: Subnet, rng: random.Random) -> Subnet:
        return rng.choice((a, b))


def build_space(config: WidthSpaceConfig) -> SearchSpace:
    """The search space that a recipe asks for."""
    return WidthSpace(tuple(config.widths))
