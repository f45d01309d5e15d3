"""The subnets that a search may propose: those of the space within the limits, and what they cost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slimasr.search.history import CostBuckets
from slimasr.supernet.front import Limits, no_subnet_meets
from slimasr.supernet.space import Gene, SearchSpace
from slimasr.supernet.subnet import Subnet

MEASURED = ("rtf",)
"""Costs that can be measured but not counted."""
MOST_COUNTED = 1000
"""In spaces of at most so many subnets, all are counted to find the one nearest to a limit that none meets."""
DRAWS = 50
"""How often a draw is repeated until it returns something new within the limits."""
DRAWS_PER_SAMPLE = 8
"""How many subnets are drawn for each one that a sample keeps."""


class Feasible:
    """A search space with the counted costs of its subnets and the limits on them.

    The costs of every subnet are counted once.
    """

    def __init__(
        self, space: SearchSpace, count: Callable[[Subnet], Mapping[str, float]], cost: str, limits: Limits
    ) -> None:
        """Check that the limits leave something of the space.

        Args:
            space: the search space.
            count: counts the costs of a subnet.
            cost: the cost of the Pareto front. Where it can only be measured, MACs replace it wherever subnets are
                ordered by size before they are evaluated.
            limits: upper bounds on costs.

        Raises:
            UserError: no subnet is within the limits; names the nearest.
        """
        self.space = space
        self.size = "macs" if cost in MEASURED else cost
        self.limits = limits
        self.counted_limits = Limits(**{n: bound for n, bound in limits.given.items() if n not in MEASURED})
        self._count = count
        self._costs: dict[Subnet, Mapping[str, float]] = {}
        self._check()

    def costs(self, subnet: Subnet) -> Mapping[str, float]:
        """The counted costs of a subnet."""
        if subnet not in self._costs:
            self._costs[subnet] = self._count(subnet)
        return self._costs[subnet]

    def allows(self, subnet: Subnet) -> bool:
        """Whether the counted costs are within the limits."""
        return self.counted_limits.allow(self.costs(subnet))

    def buckets(self, number: int) -> CostBuckets:
        """Equal ranges of size from the smallest to the largest subnet within the limits."""
        low = self.costs(self.space.min)[self.size]
        high = self.costs(self.space.max)[self.size]
        bound = self.counted_limits.given.get(self.size, high)
        return CostBuckets(self.size, low, min(high, bound), number)

    def draw(self, rng: random.Random) -> Subnet:
        """A subnet of a size that is drawn first, uniformly.

        Genes that were drawn independently would add up to medium sizes almost always. Here one fraction is drawn
        for all of them: every gene moves from its largest choice to its smallest by steps of that probability.
        """
        fraction = rng.random()
        genes: dict[str, Gene] = {}
        for name, choices in self.space.genes.items():
            steps = sum(rng.random() < fraction for _ in choices[1:])
            genes[name] = choices[steps]
        return self.space.from_genes(genes)

    def sample(self, number: int, rng: random.Random, buckets: int = 64) -> list[Subnet]:
        """Different subnets within the limits, spread evenly over sizes; max and min come first where allowed.

        The list has fewer than ``number`` where the space has no more, or where more are too rare to be drawn.

        Args:
            number: how many subnets are wanted.
            rng: source of the draws.
            buckets: number of ranges of size that get equally many subnets.
        """
        chosen = dict.fromkeys(subnet for subnet in (self.space.max, self.space.min) if self.allows(subnet))
        ranges = self.buckets(min(buckets, number))
        pool = self._pool(ranges, DRAWS_PER_SAMPLE * number, rng, chosen)
        taken = Counter(ranges.index(self.costs(subnet)) for subnet in chosen)
        while len(chosen) < number and any(pool.values()):
            # Serve the ranges that have the fewest subnets so far; if not all of them, then some that lie far apart.
            fewest = min(taken[index] for index, drawn in pool.items() if drawn)
            due = [index for index in sorted(pool) if pool[index] and taken[index] == fewest]
            for index in _evenly(due, number - len(chosen)):
                subnet, _ = pool[index].popitem()
                chosen[subnet] = None
                taken[index] += 1
        return list(chosen)[:number]

    def _pool(
        self, ranges: CostBuckets, draws: int, rng: random.Random, chosen: Mapping[Subnet, None]
    ) -> dict[int, dict[Subnet, None]]:
        """Index of a range -> the subnets that were drawn in it, each once, those already chosen left out."""
        pool: dict[int, dict[Subnet, None]] = {}
        for _ in range(draws):
            subnet = self.draw(rng)
            if subnet not in chosen and self.allows(subnet):
                drawn = pool.setdefault(ranges.index(self.costs(subnet)), {})
                drawn.setdefault(subnet)
        return pool

    def _check(self) -> None:
        """Raise `UserError` if no subnet is within the limits on counted costs."""
        if self.allows(self.space.min):
            return
        # The smallest subnet need not be the cheapest one in every cost, but of a large space nothing else is counted.
        few = self.space.count() <= MOST_COUNTED
        counted = {subnet: self.costs(subnet) for subnet in (self.space if few else [self.space.min])}
        if not any(self.counted_limits.allow(costs) for costs in counted.values()):
            raise no_subnet_meets(self.counted_limits, counted)


def describe_space(space: SearchSpace) -> dict[str, Any]:
    """Plain JSON data that differs between any two different spaces."""
    return {name: list(choices) for name, choices in space.genes.items()}


def _evenly(items: Sequence[int], number: int) -> Sequence[int]:
    """At most ``number`` of the items, at equal distances."""
    if len(items) <= number:
        return items
    return [items[(2 * n + 1) * len(items) // (2 * number)] for n in range(number)]
