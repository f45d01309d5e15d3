"""Tables, once as data: the page, RESULTS.md and the terminal only differ in how they draw them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from slimasr.report.architecture import depth, mean_ffn
from slimasr.report.claims_slimmable import subnet_ids
from slimasr.report.records import Study, SubnetRecord, Wer
from slimasr.report.roles import SEPARATE, SLIMMABLE
from slimasr.supernet.front import Measurement
from slimasr.supernet.subnet import Subnet

_NUMBER = re.compile(r"^[+\-−]?[\d,.]+( ?%|x)?( \[.*\])?$")
ABSENT = "–"
MOST_ROWS_ON_TOP = 40

Place = Literal["top", "middle", "bottom"]


@dataclass(frozen=True)
class Table:
    """Rows of text under a heading; ``marked`` rows are on the front; ``place``: where on the page."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    marked: frozenset[int] = frozenset()
    place: Place = "middle"

    def text_columns(self) -> list[bool]:
        """For every column, whether it holds words (left-aligned) rather than figures."""
        cells = zip(*self.rows, strict=True) if self.rows else ((name,) for name in self.columns)
        return [not all(cell == ABSENT or _NUMBER.match(cell) for cell in column) for column in cells]

    def markdown(self) -> str:
        """The table in GitHub's Markdown, front rows in bold."""
        rule = ["---" if text else "---:" for text in self.text_columns()]
        lines = [_line(self.columns), _line(rule)]
        for number, row in enumerate(self.rows):
            lines.append(_line([f"**{cell}**" for cell in row] if number in self.marked else row))
        note = f"\n{self.note}\n" if self.note else ""
        return f"## {self.title}\n{note}\n" + "\n".join(lines) + "\n"


def set_names(study: Study) -> list[str]:
    """Names of all scored sets, dev first."""
    names = list(dict.fromkeys(name for run in study.runs for s in run.subnets for name in s.wer))
    return sorted(names, key=lambda name: (not name.startswith("dev"), names.index(name)))


def subnet_table(study: Study) -> Table:
    """Every subnet of every run: costs and WERs; the shape of subnets that differ layer by layer; WER in int8."""
    names = set_names(study)
    shapes = any(run.is_todm for run in study.runs)
    int8 = [name for name in names if any(name in s.int8_wer for run in study.runs for s in run.subnets)]
    columns = (
        "experiment",
        "subnet",
        *(("layers", "mean FFN") if shapes else ()),
        *(f"{name} WER %" for name in names),
        *(f"{name} WER %, int8" for name in int8),
        *cost_columns(),
        *(("int8 file MB",) if int8 else ()),
    )
    rows, marked = list[tuple[str, ...]](), set[int]()
    for run in study.runs:
        for record in run.subnets:
            if not run.is_separate and record.id in run.front:
                marked.add(len(rows))
            wers = [str(record.wer[name]) if name in record.wer else ABSENT for name in names]
            wers += [str(record.int8_wer[name]) if name in record.int8_wer else ABSENT for name in int8]
            shape = shape_cells(record) if shapes else ()
            size = ABSENT if record.int8_file is None else f"{record.int8_file / 1e6:.3f}"
            file = (size,) if int8 else ()
            rows.append((run.name, run.label(record), *shape, *wers, *cost_cells(record.costs), *file))
    note = "WER with 95 % bootstrap interval; sizes are those of the stand-alone model."
    note += " Bold: on the front of its experiment (dev WER against cost)." if marked else ""
    note += " Mean FFN: channels of a feed-forward module, over the layers that run." if shapes else ""
    note += " int8: as a device runtime runs the exported model." if int8 else ""
    place: Place = "top" if len(rows) <= MOST_ROWS_ON_TOP else "bottom"
    return Table("Subnets", columns, tuple(rows), note, frozenset(marked), place)


def shape_cells(record: SubnetRecord) -> tuple[str, str]:
    """Depth and mean FFN width."""
    if not record.architecture:
        return ABSENT, ABSENT
    return str(depth(record.architecture)), f"{mean_ffn(record.architecture):.0f}"


def comparison_table(study: Study) -> Table:
    """Slimmable against separate, per width: WER on every set, and the paired difference on pooled sets."""
    names, rows = set_names(study), []
    for subnet in subnet_ids(study, SLIMMABLE):
        comparison = study.compare((SLIMMABLE, subnet), (SEPARATE, subnet))
        difference = ABSENT if comparison is None else str(comparison)
        wers = (wer_of(study, role, subnet, name) for name in names for role in (SLIMMABLE, SEPARATE))
        rows.append((subnet, *wers, difference))
    headings = (f"{role}, {name} WER %" for name in names for role in (SLIMMABLE, SEPARATE))
    pooled = next((c.sets for c in study.comparisons if c.a[0] == SLIMMABLE), ())
    note = (
        "Difference: slimmable minus separate, negative = slimmable is better; 95 % interval of the paired "
        f"bootstrap over {' + '.join(pooled) or 'the common sets'}, all common seeds pooled."
    )
    columns = ("subnet", *headings, "difference, points")
    return Table("Slimmable against separate models", columns, tuple(rows), note)


def variant_table(study: Study) -> Table:
    """Every slimmable variant side by side, set by set."""
    roles = list(dict.fromkeys(run.role for run in study.runs if run.role.startswith(SLIMMABLE)))
    ids = subnet_ids(study, roles[0]) if roles else []
    rows = tuple(
        (name, role, *(wer_of(study, role, subnet, name) for subnet in ids))
        for name in set_names(study)
        for role in roles
    )
    return Table("Variants of slimmable training, WER %", ("set", "variant", *ids), rows)


def slice_table(study: Study) -> Table:
    """Separate full-width models cut down without slimmable training, beside the slimmable subnets."""
    rows = []
    for run in study.runs:
        for sliced in run.slices:
            for name, wer in sliced.wer.items():
                rows.append((run.name, sliced.id, name, str(wer), wer_of(study, SLIMMABLE, sliced.id, name)))
    columns = ("experiment", "slice", "set", "sliced WER %", "slimmable WER %")
    return Table("Untrained slices of a separate model", columns, tuple(rows))


def run_table(study: Study) -> Table:
    """What every run cost and where it ran."""
    rows = [
        (
            run.name,
            run.role if run.separate_of is None else f"{run.role} ({run.separate_of})",
            str(run.seed),
            str(run.epochs),
            f"{run.steps:,}",
            ABSENT if run.train_minutes is None else f"{run.train_minutes:.1f}",
            run.revision[:12] or ABSENT,
            run.hardware or ABSENT,
        )
        for run in study.runs
    ]
    columns = ("experiment", "role", "seed", "epochs", "steps", "minutes", "revision", "hardware")
    return Table("Training runs", columns, tuple(rows), place="bottom")


def measurement_table(
    measurements: Sequence[Measurement], front: Sequence[Measurement], set_name: str, cost: str
) -> Table:
    """What a search has measured, cheapest first, its front marked."""
    ordered = sorted(measurements, key=lambda m: m.cost(cost))
    rows = [
        (m.subnet.id, f"{m.wer:.2f}", ABSENT if m.dev_loss is None else f"{m.dev_loss:.3f}", *cost_cells(m.costs))
        for m in ordered
    ]
    on_front = {m.subnet.id for m in front}
    marked = frozenset(number for number, m in enumerate(ordered) if m.subnet.id in on_front)
    columns = ("subnet", f"{set_name} WER %", "loss per token", *cost_columns())
    return Table("Measured subnets", columns, tuple(rows), f"Marked: front of WER against {cost}.", marked)


def profile_table(costs: Mapping[Subnet, Mapping[str, float]], name: str) -> Table:
    """Costs of the subnets of a model."""
    columns = ("subnet", *cost_columns(ALL_COSTS))
    rows = tuple((subnet.id, *cost_cells(found, ALL_COSTS)) for subnet, found in costs.items())
    note = "MACs per second of audio, predictor MACs per token; RTF on one thread: encoder and greedy search."
    return Table(f"Costs of {name}", columns, rows, note)


@dataclass(frozen=True)
class CostColumn:
    """A cost as tables show it: ``value / divisor`` with so many decimals."""

    cost: str
    title: str
    divisor: float
    decimals: int

    def cell(self, costs: Mapping[str, float]) -> str:
        """The figure, or a dash where it was not measured."""
        return f"{costs[self.cost] / self.divisor:.{self.decimals}f}" if self.cost in costs else ABSENT


COSTS = (
    CostColumn("params", "params M", 1e6, 3),
    CostColumn("int8_bytes", "int8 MB", 1e6, 3),
    CostColumn("macs", "MMACs/s", 1e6, 1),
    CostColumn("rtf", "RTF", 1.0, 4),
    CostColumn("peak_memory", "peak MB", 1e6, 1),
)
ALL_COSTS = (
    *COSTS[:2],
    CostColumn("paper_size", "paper size MB", 1e6, 3),
    COSTS[2],
    CostColumn("predictor_macs", "predictor kMACs", 1e3, 1),
    *COSTS[3:],
)


def cost_columns(chosen: Sequence[CostColumn] = COSTS) -> list[str]:
    """Headings."""
    return [column.title for column in chosen]


def cost_cells(costs: Mapping[str, float], chosen: Sequence[CostColumn] = COSTS) -> list[str]:
    """Figures in the units of the headings."""
    return [column.cell(costs) for column in chosen]


def wer_of(study: Study, role: str, subnet: str, set_name: str) -> str:
    """WER of the one run with this role and subnet, or the mean over its seeds."""
    records = [run.subnet(subnet) for run in study.with_role(role)]
    wers: list[Wer] = [r.wer[set_name] for r in records if r is not None and set_name in r.wer]
    if len(wers) == 1:
        return str(wers[0])
    return f"{sum(w.wer for w in wers) / len(wers):.2f} (mean of {len(wers)} seeds)" if wers else ABSENT


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
