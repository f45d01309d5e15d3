"""Pictures of the plots for README and papers (matplotlib, PNG)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from slimasr.report.records import Run, Study
from slimasr.report.series import AXES, COLORS, CostAxis, cost_lines, curve_lines, group_runs

DPI = 160


def write_pictures(study: Study, set_name: str, folder: Path, stem: str) -> list[Path]:
    """Write ``<stem>-wer-<cost>.png`` per measured cost and ``<stem>-training.png``; gives the paths."""
    written = []
    for axis in AXES:
        figure = cost_picture(study, set_name, axis)
        if figure is not None:
            written.append(_save(figure, folder / f"{stem}-wer-{axis.cost}.png"))
    training = training_picture(study)
    if training is not None:
        written.append(_save(training, folder / f"{stem}-training.png"))
    return written


def cost_picture(study: Study, set_name: str, axis: CostAxis) -> Figure | None:
    """WER with 95 % intervals against one cost; None where nothing has both."""
    lines = cost_lines(study, set_name, axis)
    if not lines:
        return None
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for number, line in enumerate(lines):
        wers = [record.wer[set_name] for _, record in line.points]
        axes.errorbar(
            [record.costs[axis.cost] / axis.divisor for _, record in line.points],
            [wer.wer for wer in wers],
            yerr=[[max(0.0, w.wer - w.low) for w in wers], [max(0.0, w.high - w.wer) for w in wers]],
            label=line.name,
            color=COLORS[number % len(COLORS)],
            linestyle="none" if line.separate else "-",
            marker="o",
            markerfacecolor="white" if line.separate else None,
            markersize=6,
            linewidth=1.8,
            elinewidth=1.0,
            capsize=3,
        )
    _name_points(axes, study, set_name, axis)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.08)
    _style(axes, f"{axis.title} ({axis.unit})", f"WER on {set_name} (%)")
    return figure


def training_picture(study: Study) -> Figure | None:
    """Dev WER and dev loss per subnet over epochs, a row for each role; None without a training log."""
    groups = {role: runs for role, runs in group_runs(study.runs).items() if any(run.curve for run in runs)}
    if not groups:
        return None
    figure = Figure(figsize=(8.0, 2.9 * len(groups)), layout="constrained")
    rows = figure.subplots(len(groups), 2, squeeze=False, sharex=True)
    for row, (role, runs) in zip(rows, groups.items(), strict=True):
        _draw_curves(row[0], runs, "wer", f"{role}\ndev WER (%)")
        _draw_curves(row[1], runs, "transducer", "dev loss per token")
    return figure


def _draw_curves(axes: Axes, runs: Sequence[Run], suffix: str, y_title: str) -> None:
    lines = curve_lines(runs, suffix)
    for number, line in enumerate(lines):
        axes.plot(line.epochs, line.values, label=line.name, color=COLORS[number % len(COLORS)], linewidth=1.5)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_locator(NullLocator())
    _style(axes, "epoch", y_title, legend=bool(lines))


def _name_points(axes: Axes, study: Study, set_name: str, axis: CostAxis) -> None:
    """Write the subnet ids beside the first line that is not separate models."""
    line = next((line for line in cost_lines(study, set_name, axis) if not line.separate), None)
    for run, record in () if line is None else line.points:
        place = (record.costs[axis.cost] / axis.divisor, record.wer[set_name].wer)
        axes.annotate(run.label(record), place, xytext=(6, 6), textcoords="offset points", fontsize=8, color="#444")


def _style(axes: Axes, x_title: str, y_title: str, legend: bool = True) -> None:
    axes.set_xlabel(x_title)
    axes.set_ylabel(y_title)
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if legend:
        axes.legend(frameon=False, fontsize=8)


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
    return path
