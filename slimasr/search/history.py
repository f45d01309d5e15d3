"""What a search knows: every subnet that was measured, given up or is being measured, and when to give one up."""

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
        state: ``running`` while a worker has it; ``stopped`` when it was given up, as it could not reach the front.
        costs: cost name -> value.
        generation: of the plan it was proposed for, None where there is no plan.
        errors: word errors on dev; of a stopped one, those found until then.
        words: words of dev.
        dev_loss: transducer loss per reference token, None where it cannot matter.
        marks: what the sampler that proposed it keeps for itself.
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
        """WER in percent; of a stopped one, a lower bound."""
        assert self.errors is not None and self.words, f"{self.subnet.id} is not measured"
        return 100.0 * self.errors / self.words

    def measurement(self) -> Measurement:
        """As fronts and limits see it."""
        return Measurement(self.subnet, self.wer, self.dev_loss, self.costs)


class History:
    """The candidates of a study as they were when it was read, in the order they were claimed."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self._candidates = {candidate.subnet: candidate for candidate in candidates}

    def __contains__(self, subnet: Subnet) -> bool:
        """Whether the subnet is measured, given up or claimed."""
        return subnet in self._candidates

    def __len__(self) -> int:
        return len(self._candidates)

    def get(self, subnet: Subnet) -> Candidate | None:
        """What is known of a subnet."""
        return self._candidates.get(subnet)

    def select(self, *states: State) -> list[Candidate]:
        """The candidates in one of these states."""
        return [candidate for candidate in self._candidates.values() if candidate.state in states]

    @property
    def measured(self) -> list[Candidate]:
        """Measured on the whole dev set."""
        return self.select("measured")

    @property
    def finished(self) -> list[Candidate]:
        """Measured or given up."""
        return self.select("measured", "stopped")

    def within(self, limits: Limits) -> History:
        """Without what was measured and is above a limit, as an earlier run without it may have."""
        kept = (c for c in self._candidates.values() if c.state != "measured" or limits.excess(c.measurement()) <= 1.0)
        return History(kept)

    def before(self, generation: int) -> History:
        """What was finished when a generation began: what belongs to earlier ones, or to none."""
        return History(c for c in self.finished if c.generation is None or c.generation < generation)


@dataclass(frozen=True)
class Buckets:
    """Equal ranges of a cost."""

    cost: str
    low: float
    high: float
    number: int

    def index(self, costs: Mapping[str, float]) -> int:
        """Number of the range that a subnet of these costs falls into."""
        share = (costs[self.cost] - self.low) / (self.high - self.low) if self.high > self.low else 0.0
        return min(self.number - 1, max(0, int(share * self.number)))

    def best(self, candidates: Iterable[Candidate]) -> dict[int, Candidate]:
        """Range -> its best measured subnet: fewest errors, then least loss, then lowest cost."""
        best: dict[int, Candidate] = {}
        for candidate in sorted(candidates, key=self._order, reverse=True):
            if candidate.state == "measured":
                best[self.index(candidate.costs)] = candidate
        return dict(sorted(best.items()))

    def _order(self, candidate: Candidate) -> tuple[float, ...]:
        return (*candidate.measurement().fitness, candidate.costs[self.cost])


def error_bar(history: History, costs: Mapping[str, float], cost: str, buckets: Buckets | None) -> float:
    """How many word errors a subnet of these costs may make and still matter; infinite = any number.

    With more, a measured subnet that costs no more makes fewer errors, so this one cannot be on the front; and, where
    there are buckets, another one of its bucket makes fewer, so this one cannot be a parent.
    """
    cheaper = [c.errors for c in history.measured if c.costs[cost] <= costs[cost] and c.errors is not None]
    bar = float(min(cheaper, default=math.inf))
    if buckets is None:
        return bar
    own = buckets.index(costs)
    rivals = [c.errors for c in history.measured if buckets.index(c.costs) == own and c.errors is not None]
    return max(bar, float(min(rivals, default=math.inf)))
