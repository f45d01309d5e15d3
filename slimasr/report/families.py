"""Families of experiments: supernets of equal sizes and the separate models of their subnets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slimasr.report.pairs import main_todm
from slimasr.report.records import Run


@dataclass(frozen=True)
class Family:
    """The runs of one family. ``name`` is its encoder's, empty for the first family of a report."""

    name: str
    runs: tuple[Run, ...]

    @property
    def main(self) -> Run | None:
        """The supernet that stands for the family where a picture shows one alone."""
        return main_todm(self.runs)

    @property
    def dedicated(self) -> list[Run]:
        """The plain separate models."""
        return [run for run in self.runs if run.model == "A1"]


def families(runs: Sequence[Run]) -> list[Family]:
    """The runs family by family, in the order of their first runs."""
    names = dict.fromkeys(run.family for run in runs)
    return [Family(name, tuple(run for run in runs if run.family == name)) for name in names]


def line_name(run: Run, runs: Sequence[Run]) -> str:
    """The role, and the seed where the role has several."""
    seeds = {other.seed for other in runs if other.role == run.role}
    return run.role if len(seeds) == 1 else f"{run.role}, seed {run.seed}"
