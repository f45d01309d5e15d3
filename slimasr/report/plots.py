"""Interactive plots: WER against cost, and training curves (plotly)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from slimasr.report.records import Run, Study, SubnetRecord
from slimasr.report.series import AXES, COLORS, CostAxis, cost_lines, curve_lines, group_runs

_LOG_TICKS = [digit * 10.0**power for power in range(-4, 4) for digit in (1, 2, 5)]


@dataclass(frozen=True)
class Plot:
    """A figure and the heading and sentence that go with it."""

    title: str
    note: str
    figure: go.Figure


def cost_plots(study: Study, set_name: str) -> list[Plot]:
    """WER on one set against every cost that was measured."""
    plots = []
    for axis in AXES:
        figure = _cost_figure(study, set_name, axis)
        if figure.data:
            note = "Bars: 95 % bootstrap intervals of the WER. Lines join the subnets of one training run."
            plots.append(Plot(f"WER on {set_name} against {axis.title}", note, figure))
    return plots


def curve_plots(study: Study) -> list[Plot]:
    """Dev WER and dev loss per width over epochs, one figure each for slimmable and separate models."""
    plots = []
    for group, runs in group_runs(study.runs).items():
        for suffix, title, unit in (
            ("wer", "dev WER", "WER (%)"),
            ("transducer", "dev loss", "loss per token"),
        ):
            figure = _curve_figure(runs, suffix, unit)
            if figure.data:
                note = "Evaluated after each epoch with the weights of that epoch, before averaging."
                plots.append(Plot(f"{group}: {title} over epochs", note, figure))
    return plots


def _cost_figure(study: Study, set_name: str, axis: CostAxis) -> go.Figure:
    figure = go.Figure()
    for number, line in enumerate(cost_lines(study, set_name, axis)):
        records = [record for _, record in line.points]
        wers = [record.wer[set_name] for record in records]
        color = COLORS[number % len(COLORS)]
        figure.add_scatter(
            x=[record.costs[axis.cost] / axis.divisor for record in records],
            y=[wer.wer for wer in wers],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [wer.high - wer.wer for wer in wers],
                "arrayminus": [wer.wer - wer.low for wer in wers],
                "thickness": 1,
                "width": 4,
            },
            name=line.name,
            mode="markers" if line.separate else "lines+markers",
            marker={"size": 9, "symbol": "circle-open" if line.separate else "circle", "color": color},
            line={"color": color, "width": 2},
            customdata=[hover_text(run, record, set_name) for run, record in line.points],
            hovertemplate="%{customdata}<extra></extra>",
        )
    figure.update_yaxes(rangemode="tozero")
    return _styled(figure, f"{axis.title} ({axis.unit})", "WER (%)")


def _curve_figure(runs: Sequence[Run], suffix: str, unit: str) -> go.Figure:
    figure = go.Figure()
    for number, line in enumerate(curve_lines(runs, suffix)):
        color = COLORS[number % len(COLORS)]
        figure.add_scatter(
            x=line.epochs,
            y=line.values,
            name=line.name,
            mode="lines",
            line={"color": color, "width": 2},
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
