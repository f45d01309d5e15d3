"""Interactive plots: WER against cost, searches, energy, training curves (plotly)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from slimasr.report.records import Run, Study, SubnetRecord
from slimasr.report.series import (
    AXES,
    COLORS,
    SEARCHED_AXES,
    Cloud,
    CostAxis,
    CostLine,
    CurveLine,
    Point,
    clouds,
    curve_groups,
    energy_lines,
    main_lines,
    todm_lines,
)

DASHES = ("solid", "dash", "dot")

_LOG_TICKS = [digit * 10.0**power for power in range(-4, 4) for digit in (1, 2, 5)]


@dataclass(frozen=True)
class Plot:
    """A figure, its heading, and a sentence that goes with it (may be empty)."""

    title: str
    note: str
    figure: go.Figure

    @property
    def height(self) -> int:
        """Pixels: a long legend takes none of the plot's."""
        entries = sum(trace.showlegend is not False for trace in self.figure.data)
        return 420 + 20 * max(0, entries - 4)


def cost_plots(study: Study, set_name: str) -> list[Plot]:
    """WER on one set against every cost that was measured; the fronts of all TODM models against their size."""
    plots = []
    for axis in AXES:
        figure = _cost_figure(main_lines(study, set_name, axis), set_name, axis)
        if figure.data:
            note = "Bars: 95 % bootstrap intervals of the WER. Lines join the subnets of one training run."
            plots.append(Plot(f"WER on {set_name} against {axis.title}", note, figure))
    for family, lines in todm_lines(study, set_name, AXES[0]).items():
        figure = _cost_figure(lines, set_name, AXES[0], bars=False)
        note = "Lines join the subnets that the search put on the front by dev WER; no intervals, for legibility."
        name = f"Models of paper 2{f', {family}' if family else ''}"
        plots.append(Plot(f"{name}: WER on {set_name} against {AXES[0].title}", note, figure))
    return plots


def search_plots(study: Study) -> list[Plot]:
    """Every candidate of every search, the fronts, and separate models: dev WER against size."""
    plots = []
    for axis in SEARCHED_AXES:
        found = clouds(study, axis)
        if found:
            note = "Dots: all candidates; triangles: given up early, their WER is at least this. Line: the front."
            note += " Touch a name to show or hide a search." if len(found) > 1 else ""
            title = f"Search: WER on {found[0].set_name} against {axis.title}"
            plots.append(Plot(title, note, _cloud_figure(found, axis)))
    return plots


def energy_plots(study: Study) -> list[Plot]:
    """What 1 to 30 deployed models take."""
    plots = []
    for lines in energy_lines(study):
        figure = go.Figure()
        models = list(range(1, len(lines.supernet) + 1))
        for values, name, color in (
            (lines.separate, "a separate training for each", COLORS[1]),
            (lines.supernet, f"one supernet and its search ({lines.name})", COLORS[0]),
        ):
            line = {"color": color, "width": 2}
            figure.add_scatter(x=models, y=values, name=name, mode="lines", line=line)
        figure.update_yaxes(rangemode="tozero")
        note = "A separate model of any size is taken to cost the mean of those trained here."
        title = f"{'Energy' if lines.unit == 'kWh' else lines.unit} for deployed models: {lines.name}"
        plots.append(Plot(title, note, _styled(figure, "deployed models", lines.title)))
    return plots


def curve_plots(study: Study) -> list[Plot]:
    """Dev WER and dev loss over epochs, one figure each per role; max and min of all TODM models together."""
    plots = []
    for group in curve_groups(study):
        for suffix, title, unit in (
            ("wer", "dev WER", "WER (%)"),
            ("transducer", "dev loss", "loss per token"),
        ):
            figure = _curve_figure(group.lines(suffix), unit)
            if figure.data:
                plots.append(Plot(f"{group.title}: {title} over epochs", "", figure))
    return plots


def _cost_figure(lines: Sequence[CostLine], set_name: str, axis: CostAxis, bars: bool = True) -> go.Figure:
    figure = go.Figure()
    for number, line in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        symbol = "circle-open" if line.separate else "circle"
        mode = "markers" if line.separate else "lines+markers"
        marker = {"size": 9, "symbol": symbol, "color": color}
        _add_points(
            figure, line, line.points, set_name, axis, bars, {"mode": mode, "marker": marker, "name": line.name}
        )
        if line.off_front:
            marker = {"size": 9, "symbol": "diamond-open", "color": color}
            name = f"{line.name}, not on the front"
            style = {"mode": "markers", "marker": marker, "name": name, "showlegend": bars}
            _add_points(figure, line, line.off_front, set_name, axis, bars, style)
    figure.update_yaxes(rangemode="tozero")
    return _styled(figure, f"{axis.title} ({axis.unit})", "WER (%)")


def _add_points(
    figure: go.Figure,
    line: CostLine,
    points: Sequence[tuple[Run, SubnetRecord]],
    set_name: str,
    axis: CostAxis,
    bars: bool,
    style: dict[str, Any],
) -> None:
    wers = [record.wer[set_name] for _, record in points]
    error = {
        "type": "data",
        "symmetric": False,
        "array": [wer.high - wer.wer for wer in wers],
        "arrayminus": [wer.wer - wer.low for wer in wers],
        "thickness": 1,
        "width": 4,
    }
    figure.add_scatter(
        x=[record.costs[axis.cost] / axis.divisor for _, record in points],
        y=[wer.wer for wer in wers],
        error_y=error if bars else None,
        line={"color": style["marker"]["color"], "width": 2},
        legendgroup=line.name,
        customdata=[hover_text(run, record, set_name) for run, record in points],
        hovertemplate="%{customdata}<extra></extra>",
        **style,
    )


def _cloud_figure(found: Sequence[Cloud], axis: CostAxis) -> go.Figure:
    """The first search is shown, the others can be."""
    figure = go.Figure()
    for number, cloud in enumerate(found):
        color = COLORS[number % len(COLORS)]
        group = {"legendgroup": cloud.name, "visible": True if number == 0 else "legendonly"}
        for points, symbol, what in (
            (cloud.candidates, "circle", "candidate"),
            (cloud.stopped, "triangle-up", "given up early"),
        ):
            if points:
                marker = {"color": color, "opacity": 0.3, "size": 6, "symbol": symbol}
                style = {"mode": "markers", "marker": marker, "showlegend": False, **group}
                _add_cloud(figure, points, f"{cloud.name}, {what}", style)
        line = {"color": color, "width": 2}
        style = {"mode": "lines+markers", "marker": {"color": color, "size": 8}, "line": line, **group}
        _add_cloud(figure, cloud.front, cloud.name, style)
    separate = list(dict.fromkeys(point for cloud in found for point in cloud.separate))
    if separate:
        marker = {"color": "#000", "size": 9, "symbol": "x-thin", "line": {"width": 2}}
        _add_cloud(figure, separate, "separate models", {"mode": "markers", "marker": marker})
    figure.update_yaxes(rangemode="tozero")
    return _styled(figure, f"{axis.title} ({axis.unit})", found[0].wer_title)


def _add_cloud(figure: go.Figure, points: Sequence[Point], name: str, style: dict[str, Any]) -> None:
    figure.add_scatter(
        x=[point.cost for point in points],
        y=[point.wer for point in points],
        name=name,
        text=[point.name for point in points],
        hovertemplate=f"%{{text}}<br>{name}<br>WER %{{y:.2f}} %<br>%{{x:.3f}}<extra></extra>",
        **style,
    )


def _curve_figure(lines: Sequence[CurveLine], unit: str) -> go.Figure:
    figure = go.Figure()
    for number, line in enumerate(lines):
        color, dash = COLORS[number % len(COLORS)], DASHES[number // len(COLORS) % len(DASHES)]
        figure.add_scatter(
            x=line.epochs,
            y=line.values,
            name=line.name,
            mode="lines",
            line={"color": color, "width": 2, "dash": dash},
            hovertemplate=f"{line.name}<br>epoch %{{x}}: %{{y:.2f}}<extra></extra>",
        )
    figure.update_yaxes(type="log", tickvals=_LOG_TICKS)
    return _styled(figure, "epoch", unit)


def hover_text(run: Run, record: SubnetRecord, set_name: str) -> str:
    """What hovering over a subnet says: its name, WER and all its costs."""
    wer = record.wer[set_name]
    lines = [
        f"<b>{run.name}: {run.label(record)}</b>",
        f"WER {wer} %, {wer.errors} / {wer.words} words",
    ]
    lines += [
        f"{axis.title}: {record.costs[axis.cost] / axis.divisor:.3g} {axis.unit}"
        for axis in AXES
        if axis.cost in record.costs
    ]
    if "peak_memory" in record.costs:
        lines.append(f"peak memory: {record.costs['peak_memory'] / 1e6:.1f} MB")
    return "<br>".join(lines)


def _styled(figure: go.Figure, x_title: str, y_title: str) -> go.Figure:
    grid = {"gridcolor": "#e5e5e5", "zeroline": False, "linecolor": "#888", "ticks": "outside"}
    figure.update_xaxes(title=x_title, automargin=True, fixedrange=True, **grid)
    figure.update_yaxes(title=y_title, automargin=True, fixedrange=True, **grid)
    figure.update_layout(
        template="none",
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#222"},
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        autosize=True,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        hoverlabel={"align": "left", "bgcolor": "white"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    return figure
