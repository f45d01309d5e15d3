"""The data behind the plots: one list of lines for the page (plotly) and for the pictures (matplotlib)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from slimasr.report.records import Run, Study, SubnetRecord

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
"""Okabe and Ito's palette: told apart by colour-blind readers, in print and on screen."""


@dataclass(frozen=True)
class CostAxis:
    """A cost as a plot shows it: ``value / divisor`` in ``unit``."""

    cost: str
    title: str
    unit: str
    divisor: float


AXES = (
    CostAxis("params", "parameters", "M", 1e6),
    CostAxis("int8_bytes", "int8 size", "MB", 1e6),
    CostAxis("macs", "MACs per second of audio", "M", 1e6),
    CostAxis("rtf", "RTF, one thread", "seconds per second", 1.0),
)


@dataclass(frozen=True)
class CostLine:
    """The subnets of one role and seed, cheapest first; separate models of one seed make one series."""

    name: str
    separate: bool
    points: tuple[tuple[Run, SubnetRecord], ...]


@dataclass(frozen=True)
class CurveLine:
    """One figure of one subnet over epochs."""

    name: str
    epochs: tuple[int, ...]
    values: tuple[float, ...]


def cost_lines(study: Study, set_name: str, axis: CostAxis) -> list[CostLine]:
    """One line per role and seed, of the subnets that have both this WER and this cost."""
    groups: dict[str, list[tuple[Run, SubnetRecord]]] = {}
    for run in study.runs:
        points = [(run, s) for s in run.subnets if set_name in s.wer and axis.cost in s.costs]
        groups.setdefault(line_name(run, study.runs), []).extend(points)
    return [
        CostLine(name, points[0][0].is_separate, tuple(sorted(points, key=lambda p: p[1].costs[axis.cost])))
        for name, points in groups.items()
        if points
    ]


def curve_lines(runs: Sequence[Run], suffix: str) -> list[CurveLine]:
    """One line per subnet of ``values["<subnet>/<suffix>"]``."""
    lines = []
    for run in runs:
        for record in run.subnets:
            key = f"{record.id}/{suffix}"
            points = [(p.epoch, p.values[key]) for p in run.curve if key in p.values]
            if points:
                epochs, values = zip(*points, strict=True)
                name = (
                    run.label(record) if len({r.seed for r in runs}) == 1 else f"{run.label(record)}, seed {run.seed}"
                )
                lines.append(CurveLine(name, epochs, values))
    return lines


def group_runs(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs by role, in order."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.role, []).append(run)
    return groups


def line_name(run: Run, runs: Sequence[Run]) -> str:
    """The role, and the seed where the role has several."""
    seeds = {other.seed for other in runs if other.role == run.role}
    return run.role if len(seeds) == 1 else f"{run.role}, seed {run.seed}"
