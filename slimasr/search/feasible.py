"""The subnets that a search may propose: those of the space within the limits, and what they cost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from slimasr.search.history import CostBuckets
from slimasr.supernet.front import Limits, no_subnet_meets
from slimasr.supernet.space import Gene, SearchSpace
from slimasr.supernet.subnet import Subnet

MEASURED = ("rtf",)
"""Costs that can be measured but not counted."""
MOST_COUNTED = 1000
"""If no subnet meets the limits, all subnets of a space of at most this size are counted to find the nearest one."""
DRAWS = 50
"""How many draws are made at most to find one new subnet within the limits."""
DRAWS_PER_SAMPLE = 8
"""How many subnets are drawn for each one that a sample keeps."""


class Feasible:
    """A search space with the counted costs of its subnets and the limits on them.

    The costs of every subnet are counted once.
    """

    def __init__(
        self, space: SearchSpace, count: Callable[[Subnet], Mapping[str, float]], cost: str, limits: Limits
    ) -> None:
        """Check that the limits leave at least one subnet.

        Args:
            space: the search space.
            count: counts the costs of a subnet.
            cost: the cost of the Pareto front. If it can only be measured, subnets are ordered by MACs as long as they
                have not been evaluated.
            limits: upper bounds on costs.

        Raises:
            UserError: no subnet is within the limits; the message names the nearest one.
        """
        self.space = space
        self.size = "macs" if cost in MEASURED else cost
        self.limits = limits
        self.counted_limits = Limits(**{n: bound for n, bound in limits.given.items() if n not in MEASURED})
        self._count = count
        self._costs: dict[Subnet, Mapping[str, float]] = {}
        self._check()

    def costs(self, subnet: Subnet) -> Mapping[str, float]:
        """Return the counted costs of a subnet, from memory if they have been counted before."""
        if subnet not in self._costs:
            self._costs[subnet] = self._count(subnet)
        return self._costs[subnet]

    def allows(self, subnet: Subnet) -> bool:
        """Return whether the counted costs of a subnet are within the limits."""
        return self.counted_limits.allow(self.costs(subnet))

    def buckets(self, number: int) -> CostBuckets:
        """Divide the sizes from the smallest to the largest subnet within the limits into equal ranges."""
        low = self.costs(self.space.min)[self.size]
        high = self.costs(self.space.max)[self.size]
        bound = self.counted_limits.given.get(self.size, high)
        return CostBuckets(self.size, low, min(high, bound), number)

    def draw(self, rng: random.Random) -> Subnet:
        """Draw a subnet, so that all sizes are about equally likely.

        Genes that were drawn independently would nearly always add up to a medium size. Here one fraction is drawn
        for all genes: each moves from its largest choice towards its smallest, and takes each step with that
        probability.
        """
        fraction = rng.random()
        genes: dict[str, Gene] = {}
        for name, choices in self.space.genes.items():
            # Choices are sorted from the largest to the smallest; the number of steps is binomial.
            steps = sum(rng.random() < fraction for _ in choices[1:])
            genes[name] = choices[steps]
        return self.space.from_genes(genes)

    def sample(self, number: int, rng: random.Random, buckets: int = 64) -> list[Subnet]:
        """Draw different subnets within the limits, spread evenly over sizes; max and min come first if allowed.

        The list is shorter than ``number`` if the space has no more, or if the others are too rare to be drawn.

        Args:
            number: how many subnets are wanted.
            rng: source of the draws.
            buckets: number of ranges of size that get equally many subnets.
        """
        # Dictionaries serve as sets with an order, which must be the same in every process.
        chosen = dict.fromkeys(subnet for subnet in (self.space.max, self.space.min) if self.allows(subnet))
        ranges = self.buckets(min(buckets, number))
        pool = self._pool(ranges, DRAWS_PER_SAMPLE * number, rng, chosen)
        taken = Counter(ranges.index(self.costs(subnet)) for subnet in chosen)
        while len(chosen) < number and any(pool.values()):
            # Serve the ranges that have the fewest subnets so far. If fewer subnets than ranges are left to choose, the
            # ranges are spread evenly.
            fewest = min(taken[index] for index, drawn in pool.items() if drawn)
            due = [index for index in sorted(pool) if pool[index] and taken[index] == fewest]
            for index in _evenly(due, number - len(chosen)):
                # The subnet that was drawn last: as good as any other, and all of them are new.
                subnet, _ = pool[index].popitem()
                chosen[subnet] = None
                taken[index] += 1
        # Max and min are two, even if one subnet was wanted.
        return list(chosen)[:number]

    def _pool(
        self, ranges: CostBuckets, draws: int, rng: random.Random, chosen: Mapping[Subnet, None]
    ) -> dict[int, dict[Subnet, None]]:
        """Draw subnets; returns range index -> the new subnets in that range, in the order in which they were drawn."""
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
        # The smallest subnet need not be the cheapest in every cost, but counting all of a large space takes too long.
        is_small = self.space.count() <= MOST_COUNTED
        subnets = list(self.space) if is_small else [self.space.min]
        counted = {subnet: self.costs(subnet) for subnet in subnets}
        if not any(self.counted_limits.allow(costs) for costs in counted.values()):
            raise no_subnet_meets(self.counted_limits, counted)


def _evenly(items: Sequence[int], number: int) -> Sequence[int]:
    """Return at most ``number`` of the items, at equal distances."""
    if len(items) <= number:
        return items
    # The middles of ``number`` equal stretches: (n + 1/2) * len / number, in whole numbers.
    return [items[(2 * n + 1) * len(items) // (2 * number)] for n in range(number)]
