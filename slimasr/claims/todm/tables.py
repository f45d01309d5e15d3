"""The models of paper 2 side by side."""

from __future__ import annotations

from slimasr.claims.todm.models import applies, meaning
from slimasr.report.families import line_name
from slimasr.report.records import Run, Study, SubnetRecord
from slimasr.report.table import ABSENT, Table
from slimasr.report.tables import set_names, wer_cell
from slimasr.supernet.cost import COST_UNITS

_HALF = 0.5


def tables(study: Study) -> list[Table]:
    """The paper's table."""
    return [model_table(study)]


def model_table(study: Study) -> Table:
    """All models of paper 2 side by side: max, about half its size, min; set by set."""
    runs = [run for run in study.runs if run.model not in ("", "A1") and run.subnets]
    names = set_names(study) if applies(study) else []
    rows = [(name, line_name(run, runs), meaning(run.model), *_cells(run, name)) for name in names for run in runs]
    columns = ("set", "model", "what it is", "max", "medium", "medium, params M", "min", "min, params M")
    note = "WER in percent. Medium: the measured subnet, neither max nor min, nearest to half the size of max."
    return Table("Models of paper 2 side by side, WER %", columns, tuple(rows), note)


def _cells(run: Run, set_name: str) -> list[str]:
    """WERs of max, medium and min, and the sizes of the last two; a separate model has one size alone."""
    medium = about_half(run)
    smallest = None if run.is_separate else run.smallest
    return [wer_cell(run.largest.wer, set_name), *_with_size(medium, set_name), *_with_size(smallest, set_name)]


def _with_size(record: SubnetRecord | None, set_name: str) -> tuple[str, str]:
    if record is None:
        return ABSENT, ABSENT
    return wer_cell(record.wer, set_name), COST_UNITS["params"].figure(record.params)


def about_half(run: Run) -> SubnetRecord | None:
    """The subnet nearest to half the size of max, max and min aside."""
    ends = {run.largest.id, run.smallest.id}
    between = [record for record in run.subnets if record.id not in ends]
    return min(between, key=lambda record: abs(record.params - _HALF * run.largest.params), default=None)
