"""The page about sets of utterances: one HTML file with tables and plots, made from `slimasr.data.inspection.facts`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle

from slimasr.data.inspection.facts import DataFacts, Histogram, SetFacts
from slimasr.report.page import grid_html, table_html, whole_page
from slimasr.report.pictures.picture import COLORS, Axis, Chart, Panel, Picture, Point, Series
from slimasr.report.tables.data import data_tables

LINES = ("solid", "dash", "dot")

_NOTE = "Share of the utterances of each set in each interval. A click on a set in the legend hides it."


def data_page(facts: DataFacts, title: str) -> str:
    """Return the whole page.

    Args:
        title: its title, as plain text.
    """
    tables = data_tables(facts)
    pictures = histogram_pictures(facts.sets)
    parts = [table_html(table) for table in tables if table.place == "top"]
    if pictures:
        parts.append(f'<h2>Histograms</h2><p class="note">{_NOTE}</p>{grid_html(pictures)}')
    parts += [table_html(table) for table in tables if table.place != "top"]
    return whole_page(title, _lead(facts), parts, has_plots=bool(pictures))


def histogram_pictures(sets: Sequence[SetFacts]) -> list[Picture]:
    """Describe the histograms of lengths and of characters per second, with a line for each set."""
    shown = [each for each in sets if each.utterances]
    if not shown:
        return []
    lengths = _chart("Lengths of utterances", Axis("length", "s"), shown, lambda each: each.durations)
    paces = _chart("Text of utterances", Axis("characters per second"), shown, lambda each: each.pace)
    return [Picture("lengths", (lengths,)), Picture("paces", (paces,))]


def _chart(title: str, x: Axis, sets: Sequence[SetFacts], histogram: Callable[[SetFacts], Histogram]) -> Chart:
    series = []
    for each, color, line in zip(sets, cycle(COLORS), cycle(LINES), strict=False):
        points = tuple(_outline(each, histogram(each), x))
        series.append(Series(each.name, points, line=line, color=color))
    return Chart(title, "", x, Axis("share of utterances", "%", from_zero=True), (Panel("", tuple(series)),))


def _outline(facts: SetFacts, histogram: Histogram, x: Axis) -> Iterator[Point]:
    """The corners of the bars of a histogram, from left to right."""
    unit = f" {x.unit}" if x.unit else ""
    yield Point(0.0, 0.0, hover=(facts.name,))
    for number, count in enumerate(histogram.counts):
        left, right = (number * histogram.width, (number + 1) * histogram.width)
        share = 100.0 * count / facts.utterances
        hover = (facts.name, f"{left:.6g} to {right:.6g}{unit}: {count} utterances ({share:.1f} %)")
        yield Point(left, share, hover=hover)
        yield Point(right, share, hover=hover)
    end = len(histogram.counts) * histogram.width
    longer = f"{histogram.above} utterances above {end:.6g}{unit}, up to {histogram.largest:.4g}{unit}"
    yield Point(end, 0.0, hover=(facts.name, longer) if histogram.above else (facts.name,))


def _lead(facts: DataFacts) -> str:
    hours = sum(each.hours for each in facts.sets)
    utterances = sum(each.utterances for each in facts.sets)
    sets = "1 set" if len(facts.sets) == 1 else f"{len(facts.sets)} sets"
    return f"{sets}, {utterances:,} utterances, {hours:.2f} hours."
