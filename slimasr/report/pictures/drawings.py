"""Describe the drawings of architectures: for every layer of a subnet, how much of its modules runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slimasr.report.architecture import FEED_FORWARD, kind_of, largest_sizes, varying_modules
from slimasr.report.comparison.families import families, line_name
from slimasr.report.pictures.picture import Bar, Drawing, Strip, numbered
from slimasr.report.records import Run, Study, SubnetRecord

MODULE_COLORS = ("#0072b2", "#56b4e9", "#009e73", "#e69f00")
"""Colours of the modules of a layer, from left to right."""

MODULE_GAP = 0.025
"""Space between two modules of a layer, as a fraction of the strip's width."""

MOST_STRIPS = 12
"""Most subnets whose architectures are drawn side by side."""

_UNITS = {"heads": "heads"}
"""Module -> what its units are, unless they are channels."""


def architecture_drawings(study: Study, set_name: str) -> list[Drawing]:
    """Describe the Pareto fronts of the families' main supernets, thinned out to at most `MOST_STRIPS` subnets each."""
    drawings: list[Drawing] = []
    for family in families(study.runs):
        run = family.main
        front = [] if run is None else [record for record in run.front_records if record.architecture]
        if run is None or not front:
            continue
        # Of all measured subnets, so that a full bar is the same size in all pictures of a supernet.
        shapes = [record.architecture for record in run.subnets]
        modules = varying_modules(shapes)
        full = largest_sizes(shapes)
        shown = _thinned(front)
        title = f"Architectures on the Pareto front of {line_name(run, study.runs)}"
        strips = tuple(_strip(run, record, set_name, modules, full) for record in shown)
        note = f"{_note(modules, full)} Below: parameters in millions (M), WER on {set_name}."
        if len(shown) < len(front):
            note += f" {len(shown)} of {len(front)} subnets are shown."
        name = numbered("architectures", len(drawings))
        drawings.append(Drawing(name, title, note, len(shown[0].architecture), strips))
    return drawings


def _note(modules: Sequence[str], full: Mapping[str, int]) -> str:
    """Say what the bars stand for."""
    sides = ""
    if len(modules) == 2:
        sides = f", {modules[0]} on the left and {modules[1]} on the right"
    elif len(modules) > 2:
        sides = f", from left to right {', '.join(modules)}"
    sizes = [f"a feed-forward module of {full[FEED_FORWARD]} channels"]
    for kind in dict.fromkeys(map(kind_of, modules)):
        if kind != FEED_FORWARD:
            sizes.append(f"{kind} of {full[kind]}" if kind in _UNITS else f"{kind} of {full[kind]} channels")
    is_what = " or ".join(sizes)
    return f"A bar per layer, the input's at the bottom{sides}; a full bar is {is_what}. Dropped layers are empty."


def _strip(
    run: Run, record: SubnetRecord, set_name: str, modules: Sequence[str], full_sizes: Mapping[str, int]
) -> Strip:
    """The strip of one subnet.

    Args:
        modules: modules of a layer, whose bars stand side by side.
        full_sizes: kind of a module -> units that fill a bar.
    """
    slot = 1.0 / len(modules)
    full = slot - (MODULE_GAP if len(modules) > 1 else 0.0)
    bars = []
    for number, layer in enumerate(record.architecture, start=1):
        # A dropped layer is None and has no bars.
        for column, module in enumerate(modules if layer is not None else ()):
            size = (layer or {}).get(module, 0)
            length = full * size / full_sizes[kind_of(module)]
            color = MODULE_COLORS[column % len(MODULE_COLORS)]
            hover = f"layer {number}, {module}: {size} {_UNITS.get(module, 'channels')}"
            bars.append(Bar(number, column * slot, length, full, color, hover))
    return Strip(record.id, caption_of(run, record, set_name), tuple(bars))


def caption_of(run: Run, record: SubnetRecord, set_name: str) -> tuple[str, ...]:
    """Return the lines below a drawing of a subnet: its size, whether it is max or min, and its WER."""
    # If max and min are one subnet, it is called max.
    ends = {run.smallest.id: " (min)", run.largest.id: " (max)"}
    lines = [f"{record.params / 1e6:.2f} M{ends.get(record.id, '')}"]
    if set_name in record.wer:
        lines.append(f"WER {record.wer[set_name].rate:.1f} %")
    return tuple(lines)


def _thinned(records: Sequence[SubnetRecord]) -> Sequence[SubnetRecord]:
    """At most `MOST_STRIPS` of the records, evenly spaced, with the first and the last one."""
    if len(records) <= MOST_STRIPS:
        return records
    step = (len(records) - 1) / (MOST_STRIPS - 1)
    return [records[round(step * number)] for number in range(MOST_STRIPS)]
