"""Draw pictures as PNG files for READMEs and papers (matplotlib)."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from slimasr.files import replacing
from slimasr.report.pictures.draw_names import move_apart
from slimasr.report.pictures.picture import (
    COLORS,
    TRACK,
    Chart,
    Drawing,
    HeatMap,
    HeatMaps,
    Panel,
    Picture,
    is_dark,
    shade,
)

DPI = 160
MOST_INSIDE = 4
"""Legends with more entries are placed next to the plot."""

TITLE_WIDTH = 46
"""Most characters of a line of a title above one of several charts, which would run into that of the next one."""

MOST_MAPS = 6
"""Most heat maps side by side."""

# Plotly's names of line and marker styles, which pictures use, as matplotlib has them.
_LINES = {"": "none", "solid": "-", "dash": "--", "dot": ":"}
_MARKERS: dict[str, dict[str, Any]] = {
    "": {},
    "circle": {"marker": "o"},
    "circle-open": {"marker": "o", "markerfacecolor": "white"},
    "diamond-open": {"marker": "D", "markerfacecolor": "white"},
    "triangle-up": {"marker": "^"},
    "x-thin": {"marker": "x", "markersize": 7, "markeredgewidth": 1.8},
}


def write_png(drawn: Picture | Drawing | HeatMaps, path: Path) -> Path:
    """Draw into a file and return its path."""
    if isinstance(drawn, Picture):
        figure = chart_figure(drawn)
    else:
        figure = heat_maps_figure(drawn) if isinstance(drawn, HeatMaps) else strips_figure(drawn)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI)
    return path


def chart_figure(picture: Picture) -> Figure:
    """Draw a grid of all panels: one chart in up to three columns that share their scales, several charts in two."""
    cells = [(chart, panel) for chart in picture.charts for panel in chart.panels]
    one_chart = len(picture.charts) == 1
    columns = min(3 if one_chart else 2, len(cells))
    # Division that rounds up.
    rows = -(-len(cells) // columns)
    # Sizes are in inches.
    width, height = (6.4, 4.0) if len(cells) == 1 else (3.8 * columns, 3.0 * rows)
    beside = 2.0 if any(_is_crowded(panel) for _, panel in cells) else 0.0
    figure = Figure(figsize=(width + beside, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=one_chart, sharey=one_chart)
    # The last row need not be full.
    for axes in grid.flat[len(cells) :]:
        axes.set_visible(False)
    # Shared scales fit all data only once all panels are drawn, so that they are styled in a second loop.
    for axes, (_, panel) in zip(grid.flat, cells, strict=False):
        _draw_panel(axes, panel)
    for number, (chart, panel) in enumerate(cells):
        axes = grid.flat[number]
        _style(axes, chart)
        axes.set_title(fill(panel.title if one_chart else chart.title, TITLE_WIDTH), fontsize=9.5, loc="left")
        # With shared scales, only the panels at the bottom and at the left have labels. The lowest panel of a column
        # may be in the row above the last, where matplotlib would hide its numbers.
        if not one_chart or number + columns >= len(cells):
            axes.set_xlabel(chart.x.label)
            axes.tick_params(labelbottom=True)
        if not one_chart or number % columns == 0:
            axes.set_ylabel(chart.y.label)
        # Both charts of a row have the same lines, so that a long legend is only needed at the right end.
        if _is_crowded(panel) and number % columns == columns - 1:
            axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        elif panel.series and not panel.title and not _is_crowded(panel):
            axes.legend(frameon=False, fontsize=8)
    if cells[0][1].title:
        _add_common_legend(figure)
    move_apart(figure)
    return figure


def _draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw all series of a panel, and the names of the points that have no hover text to show them."""
    size = 4.5 if panel.title or _is_crowded(panel) else 6.0
    for series in panel.series:
        style = {"markersize": size, **_MARKERS[series.marker]}
        if series.faint:
            style |= {"markersize": 3.7, "markeredgewidth": 0, "alpha": 0.25}
        axes.errorbar(
            [point.x for point in series.points],
            [point.y for point in series.points],
            yerr=series.error_bars,
            color=series.color or COLORS[0],
            linestyle=_LINES[series.line],
            linewidth=1.3 if _is_crowded(panel) else 1.8,
            elinewidth=1.0,
            capsize=3,
            label=series.name if series.in_legend else None,
            **style,
        )
        if series.labelled:
            for point in series.points:
                place = (point.x, point.y)
                name = axes.annotate(point.name, place, (6, 6), textcoords="offset points", fontsize=8, color="#444")
                # Lines may pass behind it.
                name.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
                # The layout must not make room for a name where it stands before `move_apart`.
                name.set_in_layout(False)


def _is_crowded(panel: Panel) -> bool:
    """Whether the legend is too long to be inside the plot."""
    return sum(series.in_legend for series in panel.series) > MOST_INSIDE


def _style(axes: Axes, chart: Chart) -> None:
    """Set scales, grid and frame of a panel after all panels are drawn, as all data set the limits of shared scales."""
    # Margins come first: a lower limit of 0 would be moved by them.
    axes.margins(x=0.08, y=0.08)
    if chart.y.from_zero:
        axes.set_ylim(bottom=0)
    if chart.y.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _add_common_legend(figure: Figure) -> None:
    """Add one legend for all panels, above them."""
    # By name, as every panel has series of the same names.
    drawn: dict[str, Any] = {}
    for axes in figure.axes:
        handles, names = axes.get_legend_handles_labels()
        drawn |= dict(zip(names, handles, strict=True))
    figure.legend(drawn.values(), drawn.keys(), loc="outside upper left", ncols=len(drawn), frameon=False, fontsize=8)


def strips_figure(drawing: Drawing) -> Figure:
    """Draw the strips side by side, the layer at the input at the bottom."""
    count = len(drawing.strips)
    figure = Figure(figsize=(0.6 + 1.05 * count, 0.8 + 0.22 * drawing.layers), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False, sharey=True)[0]
    for axes, strip in zip(panels, drawing.strips, strict=True):
        # The track of the full length is drawn first, the channels that run over it.
        for bar in strip.bars:
            axes.barh(bar.layer, bar.full_length, left=bar.left, height=0.72, color=TRACK)
            axes.barh(bar.layer, bar.length, left=bar.left, height=0.72, color=bar.color)
        axes.set_xlim(0, 1)
        axes.set_ylim(0.4, drawing.layers + 0.6)
        axes.set_xticks([])
        axes.spines[:].set_visible(False)
        axes.tick_params(left=False, labelsize=7, labelcolor="#777")
        axes.set_xlabel("\n".join(strip.lines), fontsize=8, loc="left")
    panels[0].set_yticks(range(1, drawing.layers + 1))
    panels[0].set_ylabel("encoder layer", fontsize=8)
    figure.suptitle(drawing.title, fontsize=9, x=0.01, horizontalalignment="left")
    return figure


def heat_maps_figure(maps: HeatMaps) -> Figure:
    """Draw a grid of the maps, block 1 at the bottom of each; as many rows as fit stand side by side in one line."""
    columns = max(len(row.maps) for row in maps.rows)
    largest = max(len(each.cells) for row in maps.rows for each in row.maps)
    beside = min(len(maps.rows), max(1, MOST_MAPS // columns))
    # Division that rounds up.
    lines = -(-len(maps.rows) // beside)
    figure = Figure(figsize=(0.6 + 1.7 * columns * beside, 0.4 + lines * (1.0 + 0.19 * largest)), layout="constrained")
    grid = figure.subplots(lines, columns * beside, squeeze=False)
    for axes in grid.flat:
        axes.set_visible(False)
    for number, row in enumerate(maps.rows):
        first = number % beside * columns
        places = grid[number // beside][first : first + len(row.maps)]
        for axes, each in zip(places, row.maps, strict=True):
            _draw_map(axes, each)
        places[0].set_title(row.title, fontsize=7.5, loc="left")
    figure.suptitle(maps.title, fontsize=9.5, x=0.01, horizontalalignment="left")
    return figure


def _draw_map(axes: Axes, each: HeatMap) -> None:
    axes.set_visible(True)
    for number, row in enumerate(each.cells, start=1):
        for column, share in enumerate(row):
            axes.barh(number, 0.97, left=column, height=0.94, color=shade(share))
            if share is not None:
                ink = "white" if is_dark(share) else "#444"
                text = f"{100 * share:.0f}"
                axes.text(column + 0.485, number, text, fontsize=6.5, color=ink, ha="center", va="center")
    axes.set_xlim(0, len(each.columns))
    axes.set_ylim(0.4, len(each.cells) + 0.6)
    axes.set_xticks([column + 0.485 for column in range(len(each.columns))], each.columns)
    axes.set_yticks(range(1, len(each.cells) + 1))
    axes.spines[:].set_visible(False)
    axes.tick_params(left=False, bottom=False, labelsize=7, labelcolor="#777")
    axes.set_xlabel("\n".join(each.lines), fontsize=8, loc="left")
