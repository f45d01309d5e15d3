"""The data behind the plots: one list of lines for the page (plotly) and for the pictures (matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from slimasr.energy import energy_of_deployments
from slimasr.report.pairs import main_todm
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


SEARCHED_AXES = AXES[:2]
"""Costs that every candidate of a search is plotted against."""

DEPLOYMENTS = 30


class Point(NamedTuple):
    """One candidate in a plot."""

    cost: float
    wer: float
    name: str


@dataclass(frozen=True)
class CostLine:
    """The subnets of one role and seed, cheapest first; separate models of one seed make one series.

    ``off_front``: measured subnets of a searched space that are not on its front, which no line goes through.
    """

    name: str
    separate: bool
    points: tuple[tuple[Run, SubnetRecord], ...]
    off_front: tuple[tuple[Run, SubnetRecord], ...] = ()


@dataclass(frozen=True)
class Cloud:
    """All candidates of one search beside its front and the separate models: (cost, dev WER, id) each.

    ``stopped`` were given up early: their WER is a lower bound.
    """

    name: str
    set_name: str
    int8: bool
    candidates: tuple[Point, ...]
    stopped: tuple[Point, ...]
    front: tuple[Point, ...]
    separate: tuple[Point, ...]

    @property
    def wer_title(self) -> str:
        """What the WERs are."""
        return f"WER on {self.set_name} (%)" + (", weights rounded to int8" if self.int8 else "")


@dataclass(frozen=True)
class CurveLine:
    """One figure of one subnet over epochs."""

    name: str
    epochs: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class CurveGroup:
    """Subnets whose training is shown in one plot: (name, run, subnet)."""

    title: str
    members: tuple[tuple[str, Run, SubnetRecord], ...]

    def lines(self, suffix: str) -> list[CurveLine]:
        """One line per subnet that has ``values["<subnet>/<suffix>"]``."""
        lines = []
        for name, run, record in self.members:
            key = f"{record.id}/{suffix}"
            points = [(p.epoch, p.values[key]) for p in run.curve if key in p.values]
            if points:
                epochs, values = zip(*points, strict=True)
                lines.append(CurveLine(name, epochs, values))
        return lines


@dataclass(frozen=True)
class EnergyLines:
    """What 1 to 30 deployed models take: one supernet with its search, or a training each."""

    name: str
    unit: str
    supernet: tuple[float, ...]
    separate: tuple[float, ...]

    @property
    def title(self) -> str:
        """Of the axis."""
        return "energy (kWh)" if self.unit == "kWh" else f"{self.unit} (energy was not metered)"


def main_lines(study: Study, set_name: str, axis: CostAxis) -> list[CostLine]:
    """Of TODM models only the main one of each family, and all else."""
    shown = [run for run in study.runs if not run.is_todm or run in main_runs(study)]
    return cost_lines(shown, set_name, axis)


def todm_lines(study: Study, set_name: str, axis: CostAxis) -> dict[str, list[CostLine]]:
    """Family -> the fronts of all models of paper 2; only families with several TODM models."""
    found = {}
    for family in families_of(study):
        runs = [run for run in study.runs if run.model and run.family == family]
        lines = cost_lines(runs, set_name, axis)
        if lines and len({run.role for run in runs if run.is_todm}) > 1:
            found[family] = lines
    return found


def families_of(study: Study) -> list[str]:
    """Names of the families, the first one's is empty."""
    return list(dict.fromkeys(run.family for run in study.runs))


def main_runs(study: Study) -> list[Run]:
    """The TODM run of each family that stands for the method."""
    found = (main_todm([run for run in study.runs if run.family == family]) for family in families_of(study))
    return [run for run in found if run is not None]


def cost_lines(runs: Sequence[Run], set_name: str, axis: CostAxis) -> list[CostLine]:
    """One line per role and seed, of the subnets that have both this WER and this cost."""
    groups: dict[str, list[tuple[Run, SubnetRecord]]] = {}
    for run in runs:
        points = [(run, s) for s in run.subnets if set_name in s.wer and axis.cost in s.costs]
        groups.setdefault(line_name(run, runs), []).extend(points)
    lines = []
    for name, points in groups.items():
        ordered = sorted(points, key=lambda p: p[1].costs[axis.cost])
        off = tuple((run, s) for run, s in ordered if run.is_todm and run.front and s.id not in run.front)
        kept = tuple(point for point in ordered if point not in off)
        if kept:
            lines.append(CostLine(name, kept[0][0].is_separate, kept, off))
    return lines


def clouds(study: Study, axis: CostAxis) -> list[Cloud]:
    """The searches that knew this cost, each beside the separate models of its family; a family's main run first."""
    first, families = main_runs(study), families_of(study)
    found = []
    for run in sorted(study.runs, key=lambda run: (families.index(run.family), run not in first)):
        seen = run.candidates
        if seen is None or axis.cost not in seen.costs:
            continue
        points = [
            Point(cost / axis.divisor, wer, name)
            for name, wer, cost in zip(seen.ids, seen.wer, seen.costs[axis.cost], strict=True)
        ]
        whole = [p for p, stopped in zip(points, seen.stopped, strict=True) if not stopped]
        cut = [p for p, stopped in zip(points, seen.stopped, strict=True) if stopped]
        front = sorted((p for p in whole if p.name in run.front), key=lambda p: p.cost)
        alone = [
            Point(record.costs[axis.cost] / axis.divisor, wer, mate.name)
            for mate in study.runs
            if mate.model == "A1" and mate.family == run.family
            for record in mate.subnets
            if axis.cost in record.costs and (wer := _searched_wer(record, seen.set_name)) is not None
        ]
        name = line_name(run, study.runs)
        found.append(Cloud(name, seen.set_name, run.int8_search, *map(tuple, (whole, cut, front, alone))))
    return found


def curve_groups(study: Study) -> list[CurveGroup]:
    """Runs of one role together, subnet by subnet; TODM models of a family together, for max and for min."""
    groups = []
    for role in dict.fromkeys(run.role for run in study.runs if not run.is_todm):
        runs = study.with_role(role)
        seeds = len({run.seed for run in runs})
        members = [
            (run.label(s) if seeds == 1 else f"{run.label(s)}, seed {run.seed}", run, s)
            for run in runs
            for s in run.subnets
        ]
        groups.append(CurveGroup(role, tuple(members)))
    for family in families_of(study):
        todm = [run for run in study.runs if run.is_todm and run.subnets and run.family == family]
        for end in ("max", "min") if todm else ():
            chosen = ((line_name(run, todm), run, run.largest if end == "max" else run.smallest) for run in todm)
            groups.append(CurveGroup(", ".join(filter(None, ("todm", family, f"{end} subnet"))), tuple(chosen)))
    return groups


def energy_lines(study: Study) -> list[EnergyLines]:
    """Per family whose main run, its search and at least one separate model were metered, or timed on one device."""
    found = []
    for run in main_runs(study):
        mates = [mate for mate in study.runs if mate.model == "A1" and mate.family == run.family]
        alone = [mate.energy["train"] for mate in mates if "train" in mate.energy]
        if not alone or not {"train", "search"} <= run.energy.keys():
            continue
        compared = energy_of_deployments(run.energy["train"], run.energy["search"], alone, DEPLOYMENTS)
        if compared is None:
            continue
        unit, rows = compared
        name = line_name(run, study.runs)
        found.append(EnergyLines(name, unit, tuple(r.supernet for r in rows), tuple(r.separate for r in rows)))
    return found


def line_name(run: Run, runs: Sequence[Run]) -> str:
    """The role, and the seed where the role has several."""
    seeds = {other.seed for other in runs if other.role == run.role}
    return run.role if len(seeds) == 1 else f"{run.role}, seed {run.seed}"


def _searched_wer(record: SubnetRecord, set_name: str) -> float | None:
    if record.searched_wer is not None:
        return record.searched_wer
    return record.wer[set_name].wer if set_name in record.wer else None
