#!/usr/bin/env python3
"""Write AN4's Pareto fronts into README.md, between its two ``front`` marks, from egs/an4/results*.json alone.

With ``--check`` nothing is written; exit status 1 means that the README is out of date.
"""

from __future__ import annotations

import re

from pages import ROOT, write_or_check

from slimasr.claims.slimmable import SLIMMABLE, subnet_ids
from slimasr.report.records import Study, read_study
from slimasr.report.roles import SEPARATE
from slimasr.report.tables.common import architecture_cell, cost_cells, cost_columns
from slimasr.report.tables.table import ABSENT, Table
from slimasr.results.report import Report

PICTURE = "egs/an4/report-wer-params.png"
MOST_ROWS = 5
# The marks themselves are not part of the match, so that they stay.
MARKS = re.compile(r"(?<=<!-- front -->\n).*?(?=<!-- /front -->)", re.DOTALL)


def front_table(study: Study) -> Table:
    """Make one row per width: test WER inside the slimmable model and trained alone, and the costs."""
    supernet = study.with_role(SLIMMABLE)[0]
    separate_runs = {run.separate_of: run for run in study.with_role(SEPARATE)}
    rows = []
    for subnet in subnet_ids(study, SLIMMABLE):
        inside = supernet.subnet(subnet)
        separate = separate_runs[subnet].subnet(subnet)
        assert inside is not None, subnet
        assert separate is not None, subnet
        rows.append((subnet, str(inside.wer["test"]), str(separate.wer["test"]), *cost_cells(inside.costs)))
    columns = ("subnet", "WER % [95 %], one slimmable run", "WER %, four separate runs", *cost_columns())
    return Table("front", columns, tuple(rows))


def todm_table(study: Study) -> Table:
    """Make one row for the max subnet of model F and for each of a few points of its Pareto front.

    The points are spread evenly over the front. Each row also has the WER of the dedicated model of its size, if any.
    """
    supernet = study.with_role("todm F")[0]
    separate_runs = {run.separate_of: run for run in study.with_role(SEPARATE)}
    # From the largest to the smallest, without the max subnet, which has a row in any case.
    front = [record for record in reversed(supernet.front_records) if record.id != supernet.largest.id]
    number = min(MOST_ROWS, len(front))
    # Both ends of the front are among the rows.
    chosen = [front[round(row * (len(front) - 1) / max(1, number - 1))] for row in range(number)]
    rows = []
    for record in [supernet.largest, *chosen]:
        separate = separate_runs[record.id].subnet(record.id) if record.id in separate_runs else None
        dedicated = ABSENT if separate is None else str(separate.wer["test"])
        rows.append((architecture_cell(record), str(record.wer["test"]), dedicated, *cost_cells(record.costs)))
    columns = ("subnet", "WER % [95 %], one todm run", "WER %, dedicated model", *cost_columns())
    return Table("front", columns, tuple(rows))


def study_of(name: str) -> Study:
    """Read a file of AN4's results."""
    return read_study(Report.load(ROOT / "egs/an4" / name))


def rendered() -> str:
    """Return README.md as it should be."""
    slimmable = study_of("results.json")
    todm = study_of("results_todm.json")
    run = slimmable.with_role(SLIMMABLE)[0]
    model_f = todm.with_role("todm F")[0]
    text = (
        f"\nCMU AN4, its 130 test utterances, greedy search; {run.epochs} epochs on {run.hardware}."
        " Widths of a Conformer ([all results](egs/an4/RESULTS.md)):\n\n"
        f"{_rows(front_table(slimmable))}\n![WER against parameters]({PICTURE})\n\n"
        f"Depth and feed-forward size of every layer of an MH-SSM encoder, {model_f.epochs} epochs, then a search"
        f" ([all results](egs/an4/RESULTS_todm.md)):\n\n{_rows(todm_table(todm))}\n"
    )
    # A function, because backslashes in a replacement text would be read as escapes.
    return MARKS.sub(lambda _: text, (ROOT / "README.md").read_text(encoding="utf-8"))


def _rows(table: Table) -> str:
    """Return a table in Markdown without its title and the empty line below it."""
    return table.markdown().split("\n", 2)[2]


def main() -> None:
    """Write the README, or with ``--check`` compare it."""
    write_or_check(ROOT / "README.md", rendered(), "readme_front.py")


if __name__ == "__main__":
    main()
