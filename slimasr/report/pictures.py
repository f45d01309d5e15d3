"""Pictures of the plots for README and papers (matplotlib, PNG)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from slimasr.files import replacing
from slimasr.report.records import Run, Study, SubnetRecord
from slimasr.report.series import (
    AXES,
    COLORS,
    SEARCHED_AXES,
    Cloud,
    CostAxis,
    CostLine,
    CurveLine,
    EnergyLines,
    clouds,
    curve_groups,
    energy_lines,
    main_lines,
    todm_lines,
)
from slimasr.report.strips import MODULE_COLORS, TRACK, Drawing, drawings

DPI = 160
MOST_INSIDE = 4
"""Longer legends stand beside the plot."""


def write_pictures(study: Study, set_name: str, folder: Path, stem: str) -> list[Path]:
    """Write ``<stem>-wer-<cost>.png`` per measured cost, ``<stem>-training.png``, and for searched supernets
    ``-models``, ``-search-<cost>``, ``-architectures`` and ``-energy``; gives the paths."""
    pictures: dict[str, Figure | None] = {}
    for axis in AXES:
        pictures[f"wer-{axis.cost}"] = cost_picture(main_lines(study, set_name, axis), set_name, axis)
    for number, lines in enumerate(todm_lines(study, set_name, AXES[0]).values()):
        pictures[_numbered("models", number)] = cost_picture(lines, set_name, AXES[0], bars=False)
    for axis in SEARCHED_AXES:
        pictures[f"search-{axis.cost}"] = search_picture(study, axis)
    for number, drawing in enumerate(drawings(study, set_name)):
        pictures[_numbered("architectures", number)] = architecture_picture(drawing)
    for number, used in enumerate(energy_lines(study)):
        pictures[_numbered("energy", number)] = energy_picture(used)
    pictures["training"] = training_picture(study)
    return [_save(figure, folder / f"{stem}-{name}.png") for name, figure in pictures.items() if figure is not None]


def cost_picture(lines: Sequence[CostLine], set_name: str, axis: CostAxis, bars: bool = True) -> Figure | None:
    """WER, with 95 % intervals where ``bars``, against one cost; None where nothing has both."""
    if not lines:
        return None
    figure = Figure(figsize=(6.4 if len(lines) <= MOST_INSIDE else 8.0, 4.0), layout="constrained")
    axes = figure.subplots()
    for number, line in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        plain = {"label": line.name, "color": color, "linestyle": "none" if line.separate else "-", "marker": "o"}
        filled = {"markerfacecolor": "white"} if line.separate else {}
        _draw_points(axes, line.points, set_name, axis, bars, {**plain, **filled})
        if line.off_front:
            style = {"color": color, "linestyle": "none", "marker": "D", "markerfacecolor": "white"}
            name = {"label": f"{line.name}, not on the front"} if bars else {}
            _draw_points(axes, line.off_front, set_name, axis, bars, {**style, **name})
    _name_points(axes, lines, set_name, axis)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.08)
    _style(axes, f"{axis.title} ({axis.unit})", f"WER on {set_name} (%)")
    return figure


def search_picture(study: Study, axis: CostAxis) -> Figure | None:
    """All candidates of every search, a panel each, with its front and the separate models; None without a search."""
    found = clouds(study, axis)
    if not found:
        return None
    columns = min(len(found), 3)
    rows = -(-len(found) // columns)
    size = (6.4, 4.0) if columns == 1 else (3.6 * columns, 3.0 * rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for number, panel in enumerate(panels.flat):
        if number >= len(found):
            panel.set_visible(False)
            continue
        _draw_cloud(panel, found[number])
        x_title = f"{axis.title} ({axis.unit})" if number + columns >= len(found) else ""
        _style(panel, x_title, found[number].wer_title if number % columns == 0 else "", legend=False)
        if x_title:
            panel.tick_params(labelbottom=True)
        if len(found) > 1:
            panel.set_title(found[number].name, fontsize=10, loc="left")
    panels[0, 0].set_ylim(0, 1.04 * panels[0, 0].get_ylim()[1])  # room for the marker of the worst
    drawn = {
        name: handle for panel in panels.flat for handle, name in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(drawn.values(), drawn.keys(), loc="outside upper left", ncols=len(drawn), frameon=False, fontsize=8)
    return figure


def architecture_picture(drawing: Drawing) -> Figure:
    """A strip per subnet: a bar per layer as long as its FFN is wide, the input's layer at the bottom."""
    count = len(drawing.strips)
    layers = max(len(strip.architecture) for strip in drawing.strips)
    figure = Figure(figsize=(0.6 + 1.05 * count, 0.8 + 0.22 * layers), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False, sharey=True)[0]
    part = 1.0 / len(drawing.modules)
    for panel, strip in zip(panels, drawing.strips, strict=True):
        for number, layer in enumerate(strip.architecture):
            for place, module in enumerate(drawing.modules if layer is not None else ()):
                channels = layer[module] if layer is not None else 0
                full = part - (0.03 if len(drawing.modules) > 1 else 0.0)
                for width, color in (
                    (full, TRACK),
                    (full * channels / drawing.widest, MODULE_COLORS[place % len(MODULE_COLORS)]),
                ):
                    panel.barh(number + 1, width, left=place * part, height=0.72, color=color)
        panel.set_xlim(0, 1)
        panel.set_ylim(0.4, layers + 0.6)
        panel.set_xticks([])
        panel.spines[:].set_visible(False)
        panel.tick_params(left=False, labelsize=7, labelcolor="#777")
        panel.set_xlabel("\n".join(strip.lines), fontsize=8, loc="left")
    panels[0].set_yticks(range(1, layers + 1))
    panels[0].set_ylabel("encoder layer", fontsize=8)
    figure.suptitle(drawing.title, fontsize=9, x=0.01, horizontalalignment="left")
    return figure


def energy_picture(lines: EnergyLines) -> Figure:
    """What 1 to 30 deployed models take: one supernet and its search, or a separate training for each."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    models = range(1, len(lines.supernet) + 1)
    axes.plot(models, lines.separate, label="a separate training for each", color=COLORS[1], linewidth=1.8)
    axes.plot(
        models, lines.supernet, label=f"one supernet and its search ({lines.name})", color=COLORS[0], linewidth=1.8
    )
    axes.set_ylim(bottom=0)
    axes.set_xlim(0.5, len(lines.supernet) + 0.5)
    _style(axes, "deployed models", lines.title)
    return figure


def training_picture(study: Study) -> Figure | None:
    """Dev WER and dev loss per subnet over epochs, a row for each group of runs; None without a training log."""
    groups = [group for group in curve_groups(study) if group.lines("wer") or group.lines("transducer")]
    if not groups:
        return None
    beside = any(len(group.lines("transducer")) > MOST_INSIDE for group in groups)
    figure = Figure(figsize=(10.0 if beside else 8.0, 2.9 * len(groups)), layout="constrained")
    rows = figure.subplots(len(groups), 2, squeeze=False, sharex=True)
    for row, group in zip(rows, groups, strict=True):
        wers, losses = group.lines("wer"), group.lines("transducer")
        _draw_curves(row[0], wers, f"{group.title}\ndev WER (%)", legend=len(wers) <= MOST_INSIDE)
        _draw_curves(row[1], losses, "dev loss per token", legend=bool(losses))
    return figure


def _draw_points(
    axes: Axes,
    points: Sequence[tuple[Run, SubnetRecord]],
    set_name: str,
    axis: CostAxis,
    bars: bool,
    style: Mapping[str, Any],
) -> None:
    wers = [record.wer[set_name] for _, record in points]
    axes.errorbar(
        [record.costs[axis.cost] / axis.divisor for _, record in points],
        [wer.wer for wer in wers],
        yerr=[[max(0.0, w.wer - w.low) for w in wers], [max(0.0, w.high - w.wer) for w in wers]] if bars else None,
        markersize=6 if bars else 4.5,
        linewidth=1.8 if bars else 1.3,
        elinewidth=1.0,
        capsize=3,
        **style,
    )


def _draw_cloud(axes: Axes, cloud: Cloud) -> None:
    for points, marker, label in (
        (cloud.candidates, "o", "candidates"),
        (cloud.stopped, "^", "given up early, at least"),
    ):
        if points:
            places = [p.cost for p in points], [p.wer for p in points]
            axes.scatter(*places, s=14, marker=marker, color=COLORS[0], alpha=0.25, linewidths=0, label=label)
    axes.plot(
        [p.cost for p in cloud.front],
        [p.wer for p in cloud.front],
        color=COLORS[0],
        marker="o",
        markersize=4.5,
        linewidth=1.8,
        label="front",
    )
    if cloud.separate:
        places = [p.cost for p in cloud.separate], [p.wer for p in cloud.separate]
        axes.scatter(*places, s=48, marker="x", color=COLORS[1], linewidths=1.8, label="separate models", zorder=3)


def _draw_curves(axes: Axes, lines: Sequence[CurveLine], y_title: str, legend: bool) -> None:
    for number, line in enumerate(lines):
        color, dash = COLORS[number % len(COLORS)], ("-", "--", ":")[number // len(COLORS) % 3]
        axes.plot(line.epochs, line.values, label=line.name, color=color, linewidth=1.5, linestyle=dash)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_locator(NullLocator())
    _style(axes, "epoch", y_title, legend=legend and bool(lines))


def _name_points(axes: Axes, lines: Sequence[CostLine], set_name: str, axis: CostAxis) -> None:
    """Write the widths beside the first slimmable line; ids of searched subnets are too long to be read there."""
    line = next((line for line in lines if not line.separate and not line.points[0][0].is_todm), None)
    for run, record in () if line is None else line.points:
        place = (record.costs[axis.cost] / axis.divisor, record.wer[set_name].wer)
        axes.annotate(run.label(record), place, xytext=(6, 6), textcoords="offset points", fontsize=8, color="#444")


def _style(axes: Axes, x_title: str, y_title: str, legend: bool = True) -> None:
    axes.set_xlabel(x_title)
    axes.set_ylabel(y_title)
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if legend and len(axes.get_legend_handles_labels()[0]) > MOST_INSIDE:
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    elif legend:
        axes.legend(frameon=False, fontsize=8)


def _numbered(name: str, number: int) -> str:
    return f"{name}-{number + 1}" if number else name


def _save(figure: Figure, path: Path) -> Path:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI)
    return path
