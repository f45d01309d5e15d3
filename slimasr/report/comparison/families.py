"""Families of experiments: supernets of equal sizes and the separate models of their subnets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slimasr.report.records import Run, SubnetRecord


@dataclass(frozen=True)
class Family:
    """The runs of one family.

    Attributes:
        name: of its encoder; empty for the first family of a report.
        runs: all of them, in the order of the report.
    """

    name: str
    runs: tuple[Run, ...]

    @property
    def supernets(self) -> list[Run]:
        """The runs that trained several subnets."""
        return [run for run in self.runs if not run.is_separate]

    @property
    def separate(self) -> list[Run]:
        """The models of one size, trained alone."""
        return [run for run in self.runs if run.is_separate]

    @property
    def masked(self) -> list[Run]:
        """The runs that have pathways; WERs in this family are to be compared language by language if there are any."""
        return [run for run in self.runs if run.masks is not None]

    @property
    def dedicated(self) -> list[Run]:
        """The plain separate models, which have no losses or options beyond those of their family."""
        # A role lists what sets a model apart, so the plain models have the shortest one.
        roles = {run.role for run in self.separate}
        plain = min(roles, key=lambda role: (len(role), role), default="")
        return [run for run in self.separate if run.role == plain]

    @property
    def main(self) -> Run | None:
        """The supernet that represents the family in a picture of one supernet.

        This is a paper's method in full, else the first supernet that was searched, else the first one whose subnets
        differ layer by layer; None if all subnets differ only in width.
        """
        shaped = [run for run in self.supernets if has_shapes(run.subnets)]
        searched = [run for run in shaped if run.is_searched]
        full = [run for run in shaped if run.is_main]
        return next(iter(full or searched or shaped), None)


def families(runs: Sequence[Run]) -> list[Family]:
    """The runs family by family, in the order of their first runs."""
    # The keys of a dict are a set that keeps its order.
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        by_name.setdefault(run.family, []).append(run)
    return [Family(name, tuple(members)) for name, members in by_name.items()]


def has_shapes(records: Sequence[SubnetRecord]) -> bool:
    """Whether subnets differ in depth or layer by layer, and not by the width of all layers alone."""
    # The id of a subnet is its width alone (w0.5), unless it also has a path or units of its own (w1-l4).
    return any(record.architecture and "-" in record.id for record in records)


def roles_in(runs: Sequence[Run]) -> list[str]:
    """The roles of some runs, each once."""
    return list(dict.fromkeys(run.role for run in runs))


def line_name(run: Run, runs: Sequence[Run]) -> str:
    """The role of a run, with its seed if several seeds have this role."""
    seeds = {other.seed for other in runs if other.role == run.role}
    return run.role if len(seeds) == 1 else f"{run.role}, seed {run.seed}"
