"""Charts of what a method logs about itself over the epochs, such as the statistics of masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

from slimasr.report.comparison.families import families, line_name
from slimasr.report.pictures.picture import COLORS, Axis, Chart, Panel, Picture, Point, Series, numbered
from slimasr.report.records import Run, Study

LINES = ("solid", "dash", "dot")

NOTE = "Figures of the method at the end of each epoch. Those about the choice of subnets end when it has been made."


def state_pictures(study: Study) -> list[Picture]:
    """Describe the method's figures of one run of each family: the main one of those that have any, else the first."""
    pictures: list[Picture] = []
    for family in families(study.runs):
        # Figures of pathways have charts of their own.
        logged = [run for run in family.runs if run.masks is None and any(point.method for point in run.curve)]
        run = next((run for run in logged if run.is_main), next(iter(logged), None))
        if run is not None:
            name = numbered("method", len(pictures))
            pictures.append(Picture(name, tuple(_charts(run, line_name(run, study.runs)))))
    return pictures


def _charts(run: Run, title: str) -> list[Chart]:
    """A chart for every figure, with a line for each subnet that has one of its own."""
    # "4 blocks/undecided" is the figure "undecided" of the subnet "4 blocks"; others belong to no single subnet.
    lines: dict[str, dict[str, list[Point]]] = {}
    for point in run.curve:
        for key, value in point.method.items():
            subnet, _, figure = key.rpartition("/")
            lines.setdefault(figure, {}).setdefault(subnet, []).append(Point(point.epoch, value))
    charts = []
    for figure, by_subnet in lines.items():
        words = figure.replace("_", " ")
        series = tuple(_series(by_subnet))
        # Multipliers may be negative.
        is_positive = all(point.y >= 0 for each in series for point in each.points)
        y = Axis(words, from_zero=is_positive)
        charts.append(Chart(f"{title}: {words}", NOTE, Axis("epoch"), y, (Panel("", series),)))
    return charts


def _series(by_subnet: Mapping[str, Sequence[Point]]) -> list[Series]:
    """A line per subnet; figures of several are often equal, so that later lines let earlier ones be seen."""
    series = []
    for (name, points), color, line in zip(by_subnet.items(), cycle(COLORS), cycle(LINES), strict=False):
        series.append(Series(name or "all subnets", tuple(points), line=line, color=color))
    return series
