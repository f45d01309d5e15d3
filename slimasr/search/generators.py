"""Candidate generators: which subnet to measure next, given everything measured so far.

A generator keeps nothing that the study does not hold, and it draws from seeds that depend only on the configuration
and on the study. So a search that was killed resumes as if it had not been, and any number of workers propose one and
the same search.
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
from slimasr.search.history import CostBuckets, History
from slimasr.supernet.subnet import Subnet

MOST_EXHAUSTIVE = 100_000


@dataclass(frozen=True)
class Proposal:
    """A subnet to measure next; ``generation`` and ``marks`` are those of `Candidate`."""

    subnet: Subnet
    generation: int | None = None
    marks: Mapping[str, Any] | None = None


class Generator(ABC):
    """Proposes subnets of one space that the study does not know yet."""

    buckets: CostBuckets | None = None
    """Ranges of cost whose best subnets matter as much as the Pareto front; None where the front alone matters."""

    @abstractmethod
    def total(self) -> int:
        """The number of subnets that will at most have been measured when the search is over."""

    @abstractmethod
    def propose(self, history: History) -> Proposal | None:
        """The next subnet. None until others have measured what they claimed, and at the end of the search."""


class Planned(Generator):
    """Generations of subnets, each of which follows from what earlier generations found.

    All workers make the same plan, which is also that of a run without kills. Within a generation they divide the
    work by gaps: a worker continues with the neighbour of its last subnet, as neighbours share encoder layers, or else
    begins in the middle of the longest gap.
    """

    generations = 1

    def __init__(self, order: Callable[[Subnet], Any]) -> None:
        """``order``: sort key that brings subnets with an equal prefix of layers together."""
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
                # Only what was finished before the generation began: later results must not change the plan.
                earlier = history.before(self._generation)
                self._members = sorted(self.plan(self._generation, earlier), key=self._order)
            free = [index for index, subnet in enumerate(self._members) if subnet not in history]
            if free:
                self._last = next_in_gaps(free, len(self._members), self._last)
                return Proposal(self._members[self._last], self._generation)
            if self._is_running(history):
                return None
            self._generation += 1
            self._members = []
            self._last = None
        return None

    def _is_running(self, history: History) -> bool:
        """Whether some worker still evaluates a member of this generation: the next one depends on all of them."""
        known = (history.get(subnet) for subnet in self._members)
        return any(candidate is not None and candidate.state == "running" for candidate in known)


def next_in_gaps(free: Sequence[int], number: int, last: int | None) -> int:
    """Which free place to take: the one after ``last``, else the middle of the longest gap.

    Where nothing is taken yet, the first place.

    Args:
        free: places that are free, ascending.
        number: how many places there are.
        last: place that this worker took last.
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
        """List the space.

        Raises:
            UserError: the space is too large.
        """
        # All keys are equal and sorting is stable: the order of the space itself brings equal prefixes together.
        super().__init__(order=lambda subnet: 0)
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
        self._feasible = feasible
        self._candidates = candidates
        self._seed = seed

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
        self.buckets: CostBuckets = feasible.buckets(config.buckets)
        self._feasible = feasible
        self._config = config
        self._seed = seed

    def total(self) -> int:
        children = self._config.mutations + self._config.crossovers
        planned = self._config.initial + self._config.generations * children
        return min(planned, self._feasible.space.count())

    def plan(self, generation: int, earlier: History) -> Sequence[Subnet]:
        # A seed per generation: a worker that joins later makes the same plan without those before it.
        rng = random.Random(f"{self._seed}/search/{generation}")
        if generation == 0:
            return self._feasible.sample(self._config.initial, rng, self._config.buckets)
        allowed = earlier.within(self._feasible.counted_limits)
        parents = [candidate.subnet for candidate in self.buckets.best(allowed.measured).values()]
        if not parents:
            return []
        space = self._feasible.space

        def mutant() -> Subnet:
            return space.mutate(rng.choice(parents), rng, self._config.mutation_probability)

        def crossover() -> Subnet:
            return space.crossover(rng.choice(parents), rng.choice(parents), rng)

        mutated = self._breed(self._config.mutations, mutant, earlier, siblings=())
        crossed = self._breed(self._config.crossovers, crossover, earlier, siblings=mutated)
        return [*mutated, *crossed]

    def _breed(
        self, number: int, make: Callable[[], Subnet], earlier: History, siblings: Sequence[Subnet]
    ) -> list[Subnet]:
        """New children within the limits: ``number`` of them, or fewer where they are hard to find."""
        children: dict[Subnet, None] = {}
        # In a small space nearly all children are known already; it has this many others at most.
        left = self._feasible.space.count() - len(earlier) - len(siblings)
        for _ in range(DRAWS * number):
            if len(children) == min(number, left):
                break
            child = make()
            is_new = child not in earlier and child not in siblings
            if is_new and self._feasible.allows(child):
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
