"""The models of paper 4 side by side, as in its tables 1, 4 and 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slimasr.claims.orthosoftmax.masks import mask_table
from slimasr.claims.orthosoftmax.models import MAIN, applies, found, is_mask_learning, is_ours, mask_families
from slimasr.report.architecture import depth
from slimasr.report.comparison.families import Family
from slimasr.report.comparison.pairs import matches
from slimasr.report.records import Run, Study, SubnetRecord
from slimasr.report.tables.common import cost_cells, set_names, wer_of
from slimasr.report.tables.table import ABSENT, Table
from slimasr.supernet.cost import COST_UNITS

_COSTS = ("params", "macs")
MAX = "max"

Systems = Mapping[str, tuple[str, SubnetRecord]]
"""Budget, or max -> name of the subnet, and the first seed's record."""


def tables(study: Study) -> list[Table]:
    """Make the paper's main table for every family, and the table of masks."""
    if not applies(study):
        return []
    return [*(_table(study, family) for family in mask_families(study.runs)), mask_table(study)]


def _table(study: Study, family: Family) -> Table:
    """WER and costs by budget: separate models first, then the supernets in the order of the report."""
    rows = _systems(family)
    budgets = list(dict.fromkeys(name for systems in rows.values() for name in systems if name != MAX))
    # The largest first: a budget is as large as the first subnet that has it.
    size = {name: next(s[name][1].params for s in rows.values() if name in s) for name in budgets}
    budgets.sort(key=lambda name: -size[name])
    cells = []
    for set_name in set_names(study):
        for role, systems in rows.items():
            row = [_wer(study, role, systems, MAX, set_name)]
            for budget in budgets:
                row += [_wer(study, role, systems, budget, set_name), *_costs(systems, budget)]
            cells.append((set_name, role, *row))
    headings = []
    for budget in budgets:
        headings += [budget, *(f"{budget}, {COST_UNITS[cost].heading}" for cost in _COSTS)]
    title = f"Models of paper 4 side by side, WER %{f', {family.name}' if family.name else ''}"
    note = (
        "By learner, criterion and granularity, and what else sets a model apart from the paper's. Columns are "
        "budgets; separate models and exits stand where their number of blocks does."
    )
    return Table(title, ("set", "model", MAX, *headings), tuple(cells), note)


def _systems(family: Family) -> Mapping[str, Systems]:
    """Role -> its subnets by budget."""
    main = found(family.runs, MAIN) or next(filter(is_mask_learning, family.runs), None)
    # Number of layers of a separate model -> the budget that it stands for.
    budget_of = {}
    for match in [] if main is None else matches(main, family.dedicated):
        budget_of[depth(match.model.largest.architecture)] = _budget(match.subnet)
    rows: dict[str, dict[str, tuple[str, SubnetRecord]]] = {}
    for run in (*family.dedicated, *filter(is_ours, family.runs)):
        for record in run.subnets:
            name = _budget(record) if record.learnt is not None else _by_depth(run, record, budget_of)
            rows.setdefault(run.role, {}).setdefault(name, (run.label(record), record))
    return rows


def _budget(record: SubnetRecord) -> str:
    return MAX if record.learnt is None else record.name


def _by_depth(run: Run, record: SubnetRecord, budget_of: Mapping[int, str]) -> str:
    """The column of a subnet without a budget."""
    if is_mask_learning(run):
        return MAX
    layers = depth(record.architecture)
    plural = "" if layers == 1 else "s"
    return budget_of.get(layers, f"{layers} block{plural}")


def _wer(study: Study, role: str, systems: Systems, budget: str, set_name: str) -> str:
    return wer_of(study, role, systems[budget][0], set_name) if budget in systems else ABSENT


def _costs(systems: Systems, budget: str) -> Sequence[str]:
    if budget not in systems:
        return [ABSENT] * len(_COSTS)
    return cost_cells(systems[budget][1].costs, _COSTS)
