"""The subnets that a search may propose: those of the space within the limits, and what they cost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slimasr.search.history import Buckets
from slimasr.supernet.front import Limits, Measurement, best_under
from slimasr.supernet.space import Gene, SearchSpace
from slimasr.supernet.subnet import Subnet

MEASURED = ("rtf",)
"""Costs that cannot be counted."""
LISTED = 1000
"""Up to so many subnets, all of a space are looked at for the one nearest to a limit."""
DRAWS = 50
"""How often a draw is repeated until it gives something new within the limits."""


class Feasible:
    """A space, its counted costs and its limits. Counts are kept."""

    def __init__(
        self, space: SearchSpace, count: Callable[[Subnet], Mapping[str, float]], cost: str, limits: Limits
    ) -> None:
        """``cost``: the one of the front; where it is measured, MACs stand for it in all that needs a count.

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
        """Counted costs."""
        if subnet not in self._costs:
            self._costs[subnet] = self._count(subnet)
        return self._costs[subnet]

    def allows(self, subnet: Subnet) -> bool:
        """Whether the counted costs are within the limits."""
        return self.counted_limits.excess(self._as_measured(subnet)) <= 1.0

    def buckets(self, number: int) -> Buckets:
        """Equal ranges from the smallest to the largest subnet within the limits."""
        low, high = (self.costs(subnet)[self.size] for subnet in (self.space.min, self.space.max))
        return Buckets(self.size, low, min(high, self.counted_limits.given.get(self.size, high)), number)

    def draw(self, rng: random.Random) -> Subnet:
        """A subnet around a size that is drawn uniformly: every gene follows one common share."""
        share = rng.random()
        genes: dict[str, Gene] = {}
        for name, choices in self.space.genes.items():
            genes[name] = choices[sum(rng.random() < share for _ in choices[1:])]
        return self.space.from_genes(genes)

    def sample(self, number: int, rng: random.Random, buckets: int = 64) -> list[Subnet]:
        """Different subnets within the limits, spread evenly over sizes; max and min are the first where allowed.

        Fewer than ``number`` where the space has no more, or hides them too well.
        """
        chosen = dict.fromkeys(s for s in (self.space.max, self.space.min) if self.allows(s))
        ranges, pool = self.buckets(min(buckets, number)), dict[int, dict[Subnet, None]]()
        for _ in range(8 * number):
            subnet = self.draw(rng)
            if subnet not in chosen and self.allows(subnet):
                pool.setdefault(ranges.index(self.costs(subnet)), {}).setdefault(subnet)
        taken = Counter(ranges.index(self.costs(subnet)) for subnet in chosen)
        while len(chosen) < number and any(pool.values()):
            fewest = min(taken[index] for index, left in pool.items() if left)
            due = [index for index in sorted(pool) if pool[index] and taken[index] == fewest]
            for index in _evenly(due, number - len(chosen)):
                chosen[pool[index].popitem()[0]] = None
                taken[index] += 1
        return list(chosen)[:number]

    def _check(self) -> None:
        if not self.counted_limits.given or self.allows(self.space.min):
            return
        few = self.space.count() <= LISTED
        best_under([self._as_measured(s) for s in (self.space if few else [self.space.min])], self.counted_limits)

    def _as_measured(self, subnet: Subnet) -> Measurement:
        return Measurement(subnet, 0.0, None, self.costs(subnet))


def describe_space(space: SearchSpace) -> dict[str, Any]:
    """Plain JSON data by which two spaces are told apart."""
    return {name: list(choices) for name, choices in space.genes.items()}


def _evenly(items: Sequence[int], number: int) -> Sequence[int]:
    """At most so many of the items, at equal distances."""
    if len(items) <= number:
        return items
    return [items[(2 * n + 1) * len(items) // (2 * number)] for n in range(number)]
