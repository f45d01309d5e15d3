"""The models of paper 3 side by side, as in its main table."""

from __future__ import annotations

from slimasr.claims.collaborative.models import applies, by_depth, collaborative_families, is_collaborative
from slimasr.report.architecture import depth
from slimasr.report.comparison.families import Family
from slimasr.report.records import Run, Study
from slimasr.report.tables.common import set_names, wer_of
from slimasr.report.tables.table import ABSENT, Table


def tables(study: Study) -> list[Table]:
    """Make the paper's main table, for every family."""
    if not applies(study):
        return []
    return [_table(study, family) for family in collaborative_families(study.runs)]


def _table(study: Study, family: Family) -> Table:
    """WER of every depth: separate models first, then the collaborative runs in the order of the report."""
    rows = _systems(family)
    depths = sorted({number for systems in rows.values() for number in systems}, reverse=True)
    cells = []
    for name in set_names(study):
        for role, systems in rows.items():
            wers = [wer_of(study, role, systems[n], name) if n in systems else ABSENT for n in depths]
            cells.append((name, role, *wers))
    title = f"Models of paper 3 side by side, WER %{f', {family.name}' if family.name else ''}"
    columns = ("set", "model", *(f"{number} layers" for number in depths))
    note = (
        "PJ = shared predictor and joiner, LF = shared low layers, CE = cross-entropy of frames, KL = taught by the "
        "deepest branch. Numbers are the layers of the branches."
    )
    return Table(title, columns, tuple(cells), note)


def _systems(family: Family) -> dict[str, dict[int, str]]:
    """Role -> number of layers -> id of the subnet."""
    found: dict[str, dict[int, str]] = {}
    for run in (*family.separate, *filter(is_collaborative, family.runs)):
        found.setdefault(run.role, {}).update(_ids(run))
    return found


def _ids(run: Run) -> dict[int, str]:
    if run.separate_of is None:
        return {number: record.id for number, record in by_depth(run).items()}
    shapes = [record.architecture for record in run.subnets if record.architecture]
    return {depth(shape): run.separate_of for shape in shapes}
