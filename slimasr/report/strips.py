"""Architectures drawn layer by layer (the picture of Fig. 1b of paper 2): one strip per subnet of a front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from slimasr.report.architecture import Architecture
from slimasr.report.records import Run, Study, SubnetRecord
from slimasr.report.series import line_name, main_runs

MOST_STRIPS = 12
MODULE_COLORS = ("#0072b2", "#56b4e9")
TRACK = "#e9edf0"

_STRIP, _BAR, _GAP, _AXIS = 84.0, 11.0, 4.0, 22.0


@dataclass(frozen=True)
class Strip:
    """One subnet: its name, lines of text about it, its layers."""

    name: str
    lines: tuple[str, ...]
    architecture: Architecture


@dataclass(frozen=True)
class Drawing:
    """The strips of one front, smallest subnet first.

    Attributes:
        modules: names of the feed-forward modules, which stand side by side in a layer.
        widest: channels of the widest, which a full bar stands for.
    """

    title: str
    note: str
    strips: tuple[Strip, ...]
    modules: tuple[str, ...]
    widest: int


def drawings(study: Study, set_name: str) -> list[Drawing]:
    """The fronts of the main TODM runs, evenly thinned out to at most `MOST_STRIPS` subnets each."""
    found = []
    for run in main_runs(study):
        front = [record for record in run.front_records if record.architecture]
        layers = [layer for record in front for layer in record.architecture if layer]
        if not layers:
            continue
        chosen = _thinned(front)
        modules = tuple(layers[0])
        widest = max(
            size for record in run.subnets for layer in record.architecture if layer for size in layer.values()
        )
        name = line_name(run, study.runs)
        found.append(
            Drawing(
                f"Architectures on the front of {name}",
                _note(modules, widest, len(chosen), len(front), set_name),
                tuple(_strip(run, record, set_name) for record in chosen),
                modules,
                widest,
            )
        )
    return found


def strips_html(drawing: Drawing) -> str:
    """The strips as inline SVG pictures that wrap where the page is narrow."""
    pictures = [_strip_svg(strip, drawing) for strip in drawing.strips]
    figures = (
        f'<figure>{picture}<figcaption title="{escape(strip.name)}">{"<br>".join(map(escape, strip.lines))}'
        "</figcaption></figure>"
        for strip, picture in zip(drawing.strips, pictures, strict=True)
    )
    return f'<div class="strips">{"".join(figures)}</div>'


def _strip_svg(strip: Strip, drawing: Drawing) -> str:
    count = len(strip.architecture)
    part = _STRIP / len(drawing.modules)
    height, width = count * (_BAR + _GAP), _AXIS + _STRIP
    shapes = []
    for number, layer in enumerate(strip.architecture):
        top = height - (number + 1) * (_BAR + _GAP) + _GAP / 2
        shapes.append(f'<text x="{_AXIS - 6:g}" y="{top + _BAR - 2:g}" text-anchor="end">{number + 1}</text>')
        for place, module in enumerate(drawing.modules if layer is not None else ()):
            channels = layer[module] if layer is not None else 0
            left, full = _AXIS + place * part, part - (2.0 if len(drawing.modules) > 1 else 0.0)
            shapes.append(
                f"<g><title>layer {number + 1}, {escape(module)}: {channels} channels</title>"
                f'<rect x="{left:g}" y="{top:g}" width="{full:g}" height="{_BAR:g}" fill="{TRACK}"/>'
                f'<rect x="{left:g}" y="{top:g}" width="{full * channels / drawing.widest:.4g}" height="{_BAR:g}" '
                f'fill="{MODULE_COLORS[place % 2]}"/></g>'
            )
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{escape(strip.name)}">{"".join(shapes)}</svg>'
    )


def _strip(run: Run, record: SubnetRecord, set_name: str) -> Strip:
    end = " (max)" if record is run.largest else " (min)" if record is run.smallest else ""
    wer = f"WER {record.wer[set_name].wer:.1f} %" if set_name in record.wer else ""
    return Strip(
        record.id, tuple(line for line in (f"{record.params / 1e6:.2f} M{end}", wer) if line), record.architecture
    )


def _thinned(records: Sequence[SubnetRecord]) -> list[SubnetRecord]:
    if len(records) <= MOST_STRIPS:
        return list(records)
    step = (len(records) - 1) / (MOST_STRIPS - 1)
    return [records[round(step * number)] for number in range(MOST_STRIPS)]


def _note(modules: Sequence[str], widest: int, shown: int, total: int, set_name: str) -> str:
    sides = f", {modules[0]} on the left and {modules[1]} on the right" if len(modules) > 1 else ""
    thinned = f" {shown} of {total} subnets." if shown < total else ""
    return (
        f"A bar per layer, the input's at the bottom{sides}; a full bar is an FFN of {widest} channels. Dropped layers "
        f"are empty. Below: parameters, WER on {set_name}.{thinned}"
    )
