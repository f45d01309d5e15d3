"""The interface of candidate generators.

A generator keeps nothing that the study does not hold, and it draws from seeds that depend only on the configuration
and on the study. So a search that was killed resumes as if nothing had happened, and all workers, however many there
are, follow the same plan.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slimasr.search.history import CostBuckets, History
from slimasr.supernet.subnet import Subnet


@dataclass(frozen=True)
class Proposal:
    """A subnet to measure next; ``generation`` and ``marks`` are those of `Candidate`."""

    subnet: Subnet
    generation: int | None = None
    marks: Mapping[str, Any] | None = None


class Generator(ABC):
    """Proposes subnets of one space that the study does not know yet."""

    buckets: CostBuckets | None = None
    """Ranges of cost whose best subnets matter as much as the Pareto front; None if the front alone matters."""

    @abstractmethod
    def total(self) -> int:
        """Return an upper bound on the number of subnets that the study holds when the search is over."""

    @abstractmethod
    def propose(self, history: History) -> Proposal | None:
        """Propose the next subnet; None while others must finish their claims first, and when the search is over."""
