"""Candidate generators: which subnet to measure next, given everything measured so far.

A generator keeps nothing that the study does not hold: it draws from seeds of its own, so a search that was killed
goes on as if it had not been, and any number of workers propose one and the same search.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slimasr.config.search import EvolutionSearchConfig, SearchConfig
from slimasr.errors import UserError
from slimasr.search.feasible import DRAWS, Feasible
from slimasr.search.history import Buckets, History
from slimasr.supernet.subnet import Subnet

MOST_EXHAUSTIVE = 100_000


@dataclass(frozen=True)
class Proposal:
    """A subnet to measure next; ``generation`` and ``marks`` are those of `Candidate`."""

    subnet: Subnet
    generation: int | None = None
    marks: Mapping[str, Any] | None = None


class Generator(ABC):
    """Proposes subnets of one space, none of them known to the study."""

    buckets: Buckets | None = None
    """Where the best subnet of every range of cost matters, not only the front: those ranges."""

    @abstractmethod
    def total(self) -> int:
        """How many subnets will at most have been measured when the search is over."""

    @abstractmethod
    def propose(self, history: History) -> Proposal | None:
        """The next subnet; None = nothing to do until what others have claimed is measured, or the end."""


class Planned(Generator):
    """Generations of subnets, each of which follows from what earlier generations found.

    All workers make the same plan, and the same one as in a run without kills. Within a generation they share work
    by gaps: go on beside the last subnet, as neighbours share encoder layers, else begin amid the longest gap.
    """

    generations = 1

    def __init__(self, order: Callable[[Subnet], Any]) -> None:
        """``order``: key that brings subnets of an equal prefix of layers together."""
        self._order = order
        self._generation = 0
        self._members: list[Subnet] = []
        self._last: int | None = None

    @abstractmethod
    def plan(self, generation: int, earlier: History) -> Sequence[Subnet]:
        """The members of a generation."""

    def propose(self, history: History) -> Proposal | None:
        while self._generation < self.generations:
            if not self._members:
                earlier = history.before(self._generation)
                self._members = sorted(self.plan(self._generation, earlier), key=self._order)
            free = [index for index, subnet in enumerate(self._members) if subnet not in history]
            if free:
                self._last = next_in_gaps(free, len(self._members), self._last)
                return Proposal(self._members[self._last], self._generation)
            if any(c.state == "running" for c in map(history.get, self._members) if c):
                return None
            self._generation, self._members, self._last = self._generation + 1, [], None
        return None


def next_in_gaps(free: Sequence[int], number: int, last: int | None) -> int:
    """Which of the free places (ascending, of ``number``) to take: the one after ``last``, else amid the longest gap.

    The first place where nothing is taken yet.
    """
    if len(free) == number:
        return free[0]
    if last is not None and last + 1 in free:
        return last + 1
    gaps: list[list[int]] = []
    for index in free:
        if gaps and gaps[-1][-1] == index - 1:
            gaps[-1].append(index)
        else:
            gaps.append([index])
    longest = max(gaps, key=len)
    return longest[len(longest) // 2]


class Exhaustive(Planned):
    """Every subnet of the space within the limits, largest first."""

    def __init__(self, feasible: Feasible) -> None:
        """Raises:
        UserError: the space is too large.
        """
        super().__init__(order=lambda subnet: 0)  # sorting is stable: the space's own order shares prefixes too
        count = feasible.space.count()
        if count > MOST_EXHAUSTIVE:
            raise UserError(f"search.kind: exhaustive, but the space has {count:,} subnets; choose evolution or random")
        self._allowed = [subnet for subnet in feasible.space if feasible.allows(subnet)]

    def total(self) -> int:
        return len(self._allowed)

    def plan(self, generation: int, earlier: History) -> Sequence[Subnet]:
        return self._allowed


class Random(Planned):
    """Max, min, and subnets drawn uniformly over sizes."""

    def __init__(self, feasible: Feasible, order: Callable[[Subnet], Any], candidates: int, seed: int) -> None:
        super().__init__(order)
        self._feasible, self._candidates, self._seed = feasible, candidates, seed

    def total(self) -> int:
        return min(self._candidates, self._feasible.space.count())

    def plan(self, generation: int, earlier: History) -> Sequence[Subnet]:
        return self._feasible.sample(self._candidates, random.Random(f"{self._seed}/search/0"))


class Evolution(Planned):
    """Mutation and crossover of the best subnets of every size (paper 2; as in AlphaNet and Once-for-all)."""

    def __init__(
        self, feasible: Feasible, order: Callable[[Subnet], Any], config: EvolutionSearchConfig, seed: int
    ) -> None:
        super().__init__(order)
        self.generations = 1 + config.generations
        self.buckets: Buckets = feasible.buckets(config.buckets)
        self._feasible, self._config, self._seed = feasible, config, seed

    def total(self) -> int:
        children = self._config.mutations + self._config.crossovers
        return min(self._config.initial + self._config.generations * children, self._feasible.space.count())

    def plan(self, generation: int, earlier: History) -> Sequence[Subnet]:
        rng = random.Random(f"{self._seed}/search/{generation}")
        if generation == 0:
            return self._feasible.sample(self._config.initial, rng, self._config.buckets)
        allowed = earlier.within(self._feasible.counted_limits)
        parents = [candidate.subnet for candidate in self.buckets.best(allowed.measured).values()]
        if not parents:
            return []
        space, probability = self._feasible.space, self._config.mutation_probability
        mutated = self._breed(
            self._config.mutations, lambda: space.mutate(rng.choice(parents), rng, probability), earlier, ()
        )
        crossed = self._breed(
            self._config.crossovers,
            lambda: space.crossover(rng.choice(parents), rng.choice(parents), rng),
            earlier,
            mutated,
        )
        return [*mutated, *crossed]

    def _breed(
        self, number: int, make: Callable[[], Subnet], earlier: History, siblings: Sequence[Subnet]
    ) -> list[Subnet]:
        """So many new children within the limits, fewer where they are hard to find."""
        children: dict[Subnet, None] = {}
        left = self._feasible.space.count() - len(earlier) - len(siblings)
        for _ in range(DRAWS * number):
            if len(children) == min(number, left):
                break
            child = make()
            if child not in earlier and child not in siblings and self._feasible.allows(child):
                children[child] = None
        return list(children)


def build_generator(config: SearchConfig, feasible: Feasible, order: Callable[[Subnet], Any], seed: int) -> Generator:
    """The generator that a recipe names under ``search.kind``."""
    if config.kind == "evolution":
        return Evolution(feasible, order, config, seed)
    if config.kind == "random":
        return Random(feasible, order, config.candidates, seed)
    if config.kind == "nsga2":
        from slimasr.search.nsga2 import Nsga2  # imports optuna

        return Nsga2(feasible, config, seed)
    return Exhaustive(feasible)
