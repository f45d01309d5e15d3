"""What a report needs to know about a paper's models: what its experiments are called, and what else to compare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from slimasr.config.schema import Config
from slimasr.report.comparison.pairs import Pair
from slimasr.report.records import Run
from slimasr.report.roles import Described, Name


class Paper(Protocol):
    """A module of functions, or an object, that knows the models of one paper.

    Experiments that no paper names are named after their method, and every supernet is compared with the separate
    models of its subnets in any case.
    """

    def role(self, described: Described, supernets: Sequence[Config]) -> Name | None:
        """Return the name of an experiment, None if it is not one of the paper's.

        Args:
            described: the experiment.
            supernets: configurations of all supernets of its family.
        """
        ...

    def pairs(self, runs: Sequence[Run]) -> Iterable[Pair]:
        """Yield the comparisons that the paper's claims need besides those with separate models."""
        ...
