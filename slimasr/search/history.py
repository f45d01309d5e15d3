"""What a search knows: all subnets that were measured, stopped early or are being measured.

From that follows how many errors another subnet may make before its evaluation is stopped early, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from slimasr.supernet.front import Limits, Measurement
from slimasr.supernet.subnet import Subnet

MOST_RIVALS = 16
"""Successive halving compares a subnet with so many others."""
FEWEST_RIVALS = 4
"""It compares with no fewer others."""

State = Literal["running", "measured", "stopped"]


@dataclass(frozen=True)
class Candidate:
    """One subnet of a search.

    Attributes:
        subnet: in canonical form.
        state: ``running`` while a worker evaluates it; ``stopped`` if the evaluation was stopped early because the
            subnet could not reach the Pareto front.
        costs: cost name -> value.
        generation: generation of the plan that it was proposed for, None if there is no plan.
        errors: word errors on dev; for a stopped subnet, those found before it was stopped.
        words: number of reference words on dev.
        dev_loss: the model's main loss per reference token, None if it cannot matter.
        marks: attributes that the sampler which proposed it needs later.
    """

    subnet: Subnet
    state: State
    costs: Mapping[str, float]
    generation: int | None = None
    errors: int | None = None
    words: int | None = None
    dev_loss: float | None = None
    marks: Mapping[str, Any] | None = None

    @property
    def wer(self) -> float:
        """WER in percent; for a stopped subnet, a lower bound."""
        assert self.errors is not None and self.words, f"{self.subnet.id} is not measured"
        return 100.0 * self.errors / self.words

    def measurement(self) -> Measurement:
        """Return the candidate as a measurement, from which Pareto fronts and reports are made."""
        return Measurement(self.subnet, self.wer, self.dev_loss, self.costs)


class History:
    """The candidates of a study as they were when it was read, in the order they were claimed."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self._candidates = {candidate.subnet: candidate for candidate in candidates}

    def __contains__(self, subnet: Subnet) -> bool:
        """Return whether the subnet was measured, stopped early or claimed."""
        return subnet in self._candidates

    def __len__(self) -> int:
        return len(self._candidates)

    def get(self, subnet: Subnet) -> Candidate | None:
        """Return the candidate of a subnet, None if the study does not know it."""
        return self._candidates.get(subnet)

    def select(self, *states: State) -> list[Candidate]:
        """Return the candidates in one of these states."""
        return [candidate for candidate in self._candidates.values() if candidate.state in states]

    @property
    def measured(self) -> list[Candidate]:
        """The candidates that were measured on the whole dev set."""
        return self.select("measured")

    @property
    def finished(self) -> list[Candidate]:
        """The candidates that were measured or stopped early."""
        return self.select("measured", "stopped")

    def within(self, limits: Limits) -> History:
        """Return the history without measured subnets above a limit, which an earlier run may have left."""
        # Only measured candidates are certain to have every cost that is limited.
        return History(c for c in self._candidates.values() if c.state != "measured" or limits.allow(c.costs))

    def alike(self, subnet: Subnet) -> History:
        """Return the history of the subnets whose errors are on the same utterances, those of their pathway."""
        return History(c for c in self._candidates.values() if c.subnet.pathway == subnet.pathway)

    def before(self, generation: int) -> History:
        """Return what was finished when a generation began: the candidates of earlier generations, or of none."""
        return History(c for c in self.finished if c.generation is None or c.generation < generation)


@dataclass(frozen=True)
class CostBuckets:
    """Ranges of equal length into which a cost is divided.

    Attributes:
        cost: name of the cost.
        low: lower end of the first range.
        high: upper end of the last range.
        number: how many ranges there are.
    """

    cost: str
    low: float
    high: float
    number: int

    def index(self, costs: Mapping[str, float]) -> int:
        """Return the index of the range of these costs; the first and last ranges include all that lies beyond them."""
        # All subnets of the space cost the same.
        if self.high <= self.low:
            return 0
        fraction = (costs[self.cost] - self.low) / (self.high - self.low)
        return min(self.number - 1, max(0, int(fraction * self.number)))

    def best(self, candidates: Iterable[Candidate]) -> dict[int, Candidate]:
        """Return range index -> its best measured subnet: fewest errors, then least loss, then lowest cost."""
        best: dict[int, Candidate] = {}
        # From the worst to the best: the best one of a range overwrites the others.
        for candidate in sorted(candidates, key=self._order, reverse=True):
            if candidate.state == "measured":
                best[self.index(candidate.costs)] = candidate
        return dict(sorted(best.items()))

    def _order(self, candidate: Candidate) -> tuple[float, ...]:
        return (*candidate.measurement().fitness, candidate.costs[self.cost])


def error_threshold(history: History, costs: Mapping[str, float], cost: str, buckets: CostBuckets | None) -> float:
    """Return the most word errors that a subnet may make and still matter; infinite = any number.

    If it makes more, a measured subnet that costs no more makes fewer errors, so this one cannot be on the Pareto
    front. If there are buckets, another subnet of its bucket makes fewer errors too, so this one cannot be a parent.

    Args:
        history: what has been measured.
        costs: cost name -> value, of the subnet to be evaluated.
        cost: the cost of the Pareto front.
        buckets: the ranges of cost whose best subnets are parents, None if there are no parents.
    """
    measured = history.measured
    threshold = _fewest_errors(c for c in measured if c.costs[cost] <= costs[cost])
    if buckets is None:
        return threshold
    index = buckets.index(costs)
    # The subnet is hopeless only if it can be neither on the front nor a parent, so the larger threshold counts.
    return max(threshold, _fewest_errors(c for c in measured if buckets.index(c.costs) == index))


def rivals_of(history: History, costs: Mapping[str, float], cost: str) -> list[Subnet]:
    """Return the subnets with which successive halving compares one: of those that cost no more, the most expensive.

    The list is empty if there are too few of them. So the smallest subnets are always evaluated on the whole set.

    Args:
        history: what has been measured or stopped early.
        costs: cost name -> value, of the subnet to be evaluated.
        cost: the cost of the Pareto front.
    """
    cheaper = [c for c in history.finished if cost in c.costs and c.costs[cost] <= costs[cost]]
    nearest = sorted(cheaper, key=lambda c: -c.costs[cost])[:MOST_RIVALS]
    return [candidate.subnet for candidate in nearest] if len(nearest) >= FEWEST_RIVALS else []


def _fewest_errors(candidates: Iterable[Candidate]) -> float:
    """Return the fewest word errors of any candidate; infinite if there is none."""
    return float(min((c.errors for c in candidates if c.errors is not None), default=math.inf))
