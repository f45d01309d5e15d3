"""The models of paper 2 side by side."""

from __future__ import annotations

from slimasr.claims.todm.models import applies, is_shown, meaning
from slimasr.report.comparison.families import line_name
from slimasr.report.records import Run, Study, SubnetRecord
from slimasr.report.tables.common import set_names, wer_cell
from slimasr.report.tables.table import ABSENT, Table
from slimasr.supernet.cost import COST_UNITS

_HALF = 0.5


def tables(study: Study) -> list[Table]:
    """Make the paper's table."""
    return [model_table(study)]


def model_table(study: Study) -> Table:
    """Make the table of all models of paper 2: max, about half its size, min; set by set."""
    runs = [run for run in study.runs if is_shown(run) and run.subnets]
    names = set_names(study) if applies(study) else []
    rows = []
    for name in names:
        for run in runs:
            rows.append((name, line_name(run, runs), meaning(run.model), *_cells(run, name)))
    columns = ("set", "model", "what it is", "max", "medium", "medium, params M", "min", "min, params M")
    note = "WER in percent. Medium: the measured subnet, neither max nor min, nearest to half the size of max."
    return Table("Models of paper 2 side by side, WER %", columns, tuple(rows), note)


def _cells(run: Run, set_name: str) -> list[str]:
    """WERs of max, medium and min, and the sizes of the last two; a separate model has a single size, max."""
    medium = about_half(run)
    smallest = None if run.is_separate else run.smallest
    return [wer_cell(run.largest.wer, set_name), *_with_size(medium, set_name), *_with_size(smallest, set_name)]


def _with_size(record: SubnetRecord | None, set_name: str) -> tuple[str, str]:
    """The cells of WER and parameters."""
    if record is None:
        return ABSENT, ABSENT
    return wer_cell(record.wer, set_name), COST_UNITS["params"].figure(record.params)


def about_half(run: Run) -> SubnetRecord | None:
    """Find the subnet, other than max and min, whose size is nearest to half that of max."""
    ends = {run.largest.id, run.smallest.id}
    between = [record for record in run.subnets if record.id not in ends]
    return min(between, key=lambda record: abs(record.params - _HALF * run.largest.params), default=None)
