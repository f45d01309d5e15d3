"""Draw pictures for the page: charts as plotly figures with hover text, architectures as inline SVG."""

from __future__ import annotations

from html import escape
from typing import Any

import plotly.graph_objects as go

from slimasr.report.pictures.picture import (
    COLORS,
    TRACK,
    Axis,
    Chart,
    Drawing,
    HeatMap,
    HeatMaps,
    Panel,
    Series,
    Strip,
    is_dark,
    shade,
)

# Ticks of logarithmic axes: 1, 2 and 5 times every power of ten, from 0.0001 to 5000.
_LOG_TICKS = [digit * 10.0**power for power in range(-4, 4) for digit in (1, 2, 5)]

# Sizes of strips in pixels.
_STRIP = 84.0
"""Width of a strip."""

_BAR = 11.0
"""Height of a bar."""

_GAP = 4.0
"""Height of the gap between two bars."""

_CELL = (32.0, 15.0)
"""Width and height of a cell of a heat map."""

_NUMBERS = 22.0
"""Width of the column with the layers' numbers."""


def plotly_figure(chart: Chart) -> go.Figure:
    """Draw all panels over each other: the first one is shown, a click on a name in the legend shows the others."""
    figure = go.Figure()
    # Shared series, such as separate models, occur in several panels and are drawn with the first of them.
    drawn: set[Series] = set()
    for number, panel in enumerate(chart.panels):
        for series in panel.series:
            if series not in drawn:
                visible = True if number == 0 or series.shared else "legendonly"
                color = COLORS[number % len(COLORS)]
                figure.add_scatter(visible=visible, **_trace(chart, panel, series, color))
            drawn.add(series)
    figure.update_xaxes(_axis(chart.x))
    figure.update_yaxes(_axis(chart.y))
    # The legend is above the plot and takes about 20 pixels for every entry beyond the first four.
    entries = sum(trace.showlegend for trace in figure.data)
    figure.update_layout(
        template="none",
        height=420 + 20 * max(0, entries - 4),  # so that a long legend takes no space from the plot
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#222"},
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        hoverlabel={"align": "left", "bgcolor": "white"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    return figure


def _trace(chart: Chart, panel: Panel, series: Series, panel_color: str) -> dict[str, Any]:
    """Options of one plotly trace. A panel with a title has one entry in the legend, at its line."""
    in_panel = bool(panel.title) and not series.shared
    name = f"{panel.title}, {series.name}" if in_panel else series.name
    # A click on a group's entry in the legend shows or hides all its traces: a whole panel, or a line with the points
    # that are not on it.
    group = panel.title if in_panel else series.group or series.name
    color = series.color or panel_color
    parts = []
    if series.line:
        parts.append("lines")
    if series.marker:
        parts.append("markers")
    marker: dict[str, Any] = {"symbol": series.marker or None, "size": 9, "color": color}
    # Plotly draws this symbol by its outline alone, which has no width by default.
    if series.marker == "x-thin":
        marker["line"] = {"width": 2}
    if series.faint:
        marker |= {"size": 6, "opacity": 0.3}
    error_bars = None
    if series.error_bars is not None:
        below, above = series.error_bars
        error_bars = {"symmetric": False, "array": above, "arrayminus": below, "thickness": 1, "width": 4}
    return {
        "x": [point.x for point in series.points],
        "y": [point.y for point in series.points],
        "error_y": error_bars,
        "mode": "+".join(parts),
        "marker": marker,
        "line": {"color": color, "width": 2, "dash": series.line or None},
        "name": panel.title if in_panel and series.line else name,
        "legendgroup": group,
        "showlegend": bool(series.line) if in_panel else series.in_legend,
        "legendrank": 2000 if series.shared else 1000,  # 1000 is the default: shared series come last
        "text": [point.name for point in series.points],
        "customdata": ["<br>".join(point.hover) for point in series.points],
        "hovertemplate": _hover_template(chart, series, name),
    }


def _hover_template(chart: Chart, series: Series, name: str) -> str:
    """The points' own text if they have one, else their names and coordinates."""
    if any(point.hover for point in series.points):
        return "%{customdata}<extra></extra>"
    lines = ["<b>%{text}</b>"] if any(point.name for point in series.points) else []
    # Doubled braces are plotly's own: three decimals, without trailing zeros. The empty <extra> hides the box in which
    # plotly would repeat the name of the trace.
    lines += [name, f"{chart.y.title}: %{{y:.3~f}} {chart.y.unit}", f"{chart.x.title}: %{{x:.3~f}} {chart.x.unit}"]
    return "<br>".join(lines) + "<extra></extra>"


def _axis(axis: Axis) -> dict[str, Any]:
    options: dict[str, Any] = {"automargin": True, "fixedrange": True}
    options["title"] = {"text": axis.label, "font": {"size": 13}}
    options |= {"gridcolor": "#e5e5e5", "zeroline": False, "linecolor": "#888", "ticks": "outside"}
    if axis.from_zero:
        options["rangemode"] = "tozero"
    if axis.log:
        options |= {"type": "log", "tickvals": _LOG_TICKS}
    return options


def strips_html(drawing: Drawing) -> str:
    """Draw the strips as inline SVG pictures that wrap if the page is narrow."""
    figures = []
    for strip in drawing.strips:
        lines = "<br>".join(map(escape, strip.lines))
        caption = f'<figcaption title="{escape(strip.name)}">{lines}</figcaption>'
        figures.append(f"<figure>{_strip_svg(strip, drawing.layers)}{caption}</figure>")
    return f'<div class="strips">{"".join(figures)}</div>'


def _strip_svg(strip: Strip, layers: int) -> str:
    step = _BAR + _GAP
    # In SVG, y grows downwards, and layer 1 is to be at the bottom.
    tops = {layer: (layers - layer) * step + _GAP / 2 for layer in range(1, layers + 1)}
    shapes = []
    for layer, top in tops.items():
        shapes.append(f'<text x="{_NUMBERS - 6:g}" y="{top + _BAR - 2:g}" text-anchor="end">{layer}</text>')
    for bar in strip.bars:
        place = f'x="{_NUMBERS + _STRIP * bar.left:g}" y="{tops[bar.layer]:g}" height="{_BAR:g}"'
        shapes.append(
            f"<g><title>{escape(bar.hover)}</title>"
            f'<rect {place} width="{_STRIP * bar.full_length:.4g}" fill="{TRACK}"/>'
            f'<rect {place} width="{_STRIP * bar.length:.4g}" fill="{bar.color}"/></g>'
        )
    size = f'width="{_NUMBERS + _STRIP:g}" height="{layers * step:g}"'
    box = f'viewBox="0 0 {_NUMBERS + _STRIP:g} {layers * step:g}"'
    return f'<svg {box} {size} role="img" aria-label="{escape(strip.name)}">{"".join(shapes)}</svg>'


def heat_maps_html(maps: HeatMaps) -> str:
    """Draw every row of maps as inline SVG pictures below its title."""
    parts = []
    for row in maps.rows:
        figures = []
        for each in row.maps:
            lines = "<br>".join(map(escape, each.lines))
            caption = f'<figcaption title="{escape(each.name)}">{lines}</figcaption>'
            figures.append(f"<figure>{_map_svg(each)}{caption}</figure>")
        parts.append(f'<h3>{escape(row.title)}</h3><div class="strips">{"".join(figures)}</div>')
    return "".join(parts)


def _map_svg(each: HeatMap) -> str:
    wide, high = _CELL
    rows = len(each.cells)
    # The headings stand below the lowest row, which is row 1.
    bottom = rows * high
    shapes = []
    for number, row in enumerate(each.cells, start=1):
        top = bottom - number * high
        shapes.append(f'<text x="{_NUMBERS - 6:g}" y="{top + high - 4:g}" text-anchor="end">{number}</text>')
        for column, (module, share) in enumerate(zip(each.columns, row, strict=True)):
            left = _NUMBERS + column * wide
            said = "none" if share is None else f"{100 * share:.0f}"
            ink = "#fff" if is_dark(share) else "#444"
            shapes.append(
                f"<g><title>block {number}, {escape(module)}: {said}{'' if share is None else ' %'}</title>"
                f'<rect x="{left:g}" y="{top:g}" width="{wide - 1:g}" height="{high - 1:g}" fill="{shade(share)}"/>'
                f'<text x="{left + wide / 2:g}" y="{top + high - 4:g}" text-anchor="middle" style="fill: {ink}">'
                f"{'' if share is None else said}</text></g>"
            )
    for column, module in enumerate(each.columns):
        middle = _NUMBERS + (column + 0.5) * wide
        shapes.append(f'<text x="{middle:g}" y="{bottom + 10:g}" text-anchor="middle">{escape(module)}</text>')
    width = _NUMBERS + wide * len(each.columns)
    height = bottom + high
    size = f'width="{width:g}" height="{height:g}"'
    box = f'viewBox="0 0 {width:g} {height:g}"'
    return f'<svg {box} {size} role="img" aria-label="{escape(each.name)}">{"".join(shapes)}</svg>'
