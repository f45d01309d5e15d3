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

State = Literal["running", "measured", "stopped"]


@dataclass(frozen=True)
class Candidate:
    """One subnet of a search.

    Attributes:
        subnet: in canonical form.
        state: ``running`` while a worker evaluates it; ``stopped`` when the evaluation was stopped early, as the
            subnet could not reach the Pareto front.
        costs: cost name -> value.
        generation: generation of the plan it was proposed for, None where there is no plan.
        errors: word errors on dev; of a stopped subnet, those found until then.
        words: words of dev.
        dev_loss: transducer loss per reference token, None where it cannot matter.
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
        """WER in percent; of a stopped subnet, a lower bound."""
        assert self.errors is not None and self.words, f"{self.subnet.id} is not measured"
        return 100.0 * self.errors / self.words

    def measurement(self) -> Measurement:
        """The same as Pareto fronts and reports see it."""
        return Measurement(self.subnet, self.wer, self.dev_loss, self.costs)


class History:
    """The candidates of a study as they were when it was read, in the order they were claimed."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self._candidates = {candidate.subnet: candidate for candidate in candidates}

    def __contains__(self, subnet: Subnet) -> bool:
        """Whether the subnet was measured, stopped early or claimed."""
        return subnet in self._candidates

    def __len__(self) -> int:
        return len(self._candidates)

    def get(self, subnet: Subnet) -> Candidate | None:
        """What is known of a subnet, None where nothing is."""
        return self._candidates.get(subnet)

    def select(self, *states: State) -> list[Candidate]:
        """The candidates in one of these states."""
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
        """The history without measured subnets above a limit: an earlier run without that limit may have left some."""
        return History(c for c in self._candidates.values() if c.state != "measured" or limits.allow(c.costs))

    def before(self, generation: int) -> History:
        """What was finished when a generation began: all that belongs to earlier generations, or to none."""
        return History(c for c in self.finished if c.generation is None or c.generation < generation)


@dataclass(frozen=True)
class CostBuckets:
    """Equal ranges of a cost.

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
        """Index of the range that a subnet of these costs falls into; the end ranges take what lies beyond them."""
        if self.high <= self.low:
            return 0
        fraction = (costs[self.cost] - self.low) / (self.high - self.low)
        return min(self.number - 1, max(0, int(fraction * self.number)))

    def best(self, candidates: Iterable[Candidate]) -> dict[int, Candidate]:
        """Range -> its best measured subnet: fewest errors, then least loss, then lowest cost."""
        best: dict[int, Candidate] = {}
        # From the worst to the best, so that the best one of a range is entered last and stays.
        for candidate in sorted(candidates, key=self._order, reverse=True):
            if candidate.state == "measured":
                best[self.index(candidate.costs)] = candidate
        return dict(sorted(best.items()))

    def _order(self, candidate: Candidate) -> tuple[float, ...]:
        return (*candidate.measurement().fitness, candidate.costs[self.cost])


def error_threshold(history: History, costs: Mapping[str, float], cost: str, buckets: CostBuckets | None) -> float:
    """How many word errors a subnet of these costs may make and still matter; infinite = any number.

    If it makes more, a measured subnet that costs no more makes fewer errors, so this one cannot be on the Pareto
    front. Where there are buckets, another subnet of its bucket makes fewer errors too, so this one cannot be a parent.

    Args:
        cost: the cost of the Pareto front.
        buckets: the ranges of cost whose best subnets are parents, None where there are no parents.
    """
    measured = history.measured
    threshold = _fewest_errors(c for c in measured if c.costs[cost] <= costs[cost])
    if buckets is None:
        return threshold
    index = buckets.index(costs)
    return max(threshold, _fewest_errors(c for c in measured if buckets.index(c.costs) == index))


def _fewest_errors(candidates: Iterable[Candidate]) -> float:
    """The fewest word errors of any candidate; infinite where there is none."""
    return float(min((c.errors for c in candidates if c.errors is not None), default=math.inf))
