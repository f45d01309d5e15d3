"""The generators of candidates that a recipe can name (``search.kind``), except NSGA-II (`slimasr.search.nsga2`)."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from slimasr.config.search import EvolutionSearchConfig, SearchConfig
from slimasr.errors import UserError
from slimasr.search.feasible import DRAWS, Feasible
from slimasr.search.generator import Generator, Proposal
from slimasr.search.history import CostBuckets, History
from slimasr.supernet.subnet import Subnet

MOST_EXHAUSTIVE = 100_000
"""The most subnets that a space may have for an exhaustive search."""


class Planned(Generator):
    """Generations of subnets, each of which follows from what earlier generations found.

    All workers make the same plan, which is also that of a run that was never killed. Within a generation they divide
    the work: a worker continues with the neighbour of its last subnet, because neighbours share encoder layers; if that
    is taken, it begins in the middle of the longest gap between taken subnets.
    """

    generations = 1
    """Number of generations; the first has index 0."""

    def __init__(self, order: Callable[[Subnet], Any]) -> None:
        """``order`` is a sort key that makes neighbours of the subnets with an equal prefix of layers."""
        self._order = order
        # Where this worker is in the plan. This only saves time: a new worker finds it from the history.
        self._generation = 0
        self._members: list[Subnet] = []
        self._last: int | None = None

    @abstractmethod
    def plan(self, generation: int, earlier: History) -> Sequence[Subnet]:
        """Return the members of a generation; it depends on nothing but the arguments and the configuration."""

    def propose(self, history: History) -> Proposal | None:
        while self._generation < self.generations:
            if not self._members:
                # Only what earlier generations found counts, so every worker makes the same plan at any time.
                earlier = history.before(self._generation)
                self._members = sorted(self.plan(self._generation, earlier), key=self._order)
            free = [index for index, subnet in enumerate(self._members) if subnet not in history]
            if free:
                self._last = next_in_gaps(free, len(self._members), self._last)
                return Proposal(self._members[self._last], self._generation)
            if self._is_running(history):
                return None
            # All members are finished, or there were none.
            self._generation += 1
            self._members = []
            self._last = None
        return None

    def _is_running(self, history: History) -> bool:
        """Return whether a member of this generation is still being evaluated: the next one depends on all of them."""
        known = (history.get(subnet) for subnet in self._members)
        return any(candidate is not None and candidate.state == "running" for candidate in known)


def next_in_gaps(free: Sequence[int], number: int, last: int | None) -> int:
    """Choose a free place: the one after ``last`` if it is free, else the middle of the longest gap.

    If no place has been taken yet, the first one is chosen.

    Args:
        free: indices of the free places, ascending.
        number: number of all places.
        last: index of the place that this worker took last.
    """
    if len(free) == number:
        return free[0]
    if last is not None and last + 1 in free:
        return last + 1
    # Split the free places into runs of consecutive indices.
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
        """List the subnets within the limits.

        Raises:
            UserError: the space is too large for an exhaustive search.
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
    """Max, min, and random subnets of evenly distributed sizes."""

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
        # Each generation has its own seed, so a resumed search draws what an uninterrupted one would have drawn.
        rng = random.Random(f"{self._seed}/search/{generation}")
        if generation == 0:
            return self._feasible.sample(self._config.initial, rng, self._config.buckets)
        # The study may hold subnets above a limit, from an earlier run without it.
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
        """Make ``number`` new children within the limits, or fewer if they are too rare."""
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
    """Build the generator that a recipe names under ``search.kind``."""
    if config.kind == "evolution":
        return Evolution(feasible, order, config, seed)
    if config.kind == "random":
        return Random(feasible, order, config.candidates, seed)
    if config.kind == "nsga2":
        from slimasr.search.nsga2 import Nsga2  # imports optuna

        return Nsga2(feasible, config, seed)
    return Exhaustive(feasible)
