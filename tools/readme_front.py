#!/usr/bin/env python3
"""Write AN4's fronts into README.md, between its two ``front`` marks, from egs/an4/results*.json alone.

With ``--check`` nothing is written: exit status 1 says that the README is out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from slimasr.claims.slimmable import SLIMMABLE, subnet_ids
from slimasr.report.records import Study, read_study
from slimasr.report.roles import SEPARATE
from slimasr.report.table import ABSENT, Table
from slimasr.report.tables import architecture_cell, cost_cells, cost_columns
from slimasr.results.report import Report

ROOT = Path(__file__).resolve().parent.parent
PICTURE = "egs/an4/report-wer-params.png"
MOST_ROWS = 5
MARKS = re.compile(r"(?<=<!-- front -->\n).*?(?=<!-- /front -->)", re.DOTALL)


def front_table(study: Study) -> Table:
    """One row a width: WER on the test set inside the slimmable model and trained alone, and the costs."""
    joint, rows = study.with_role(SLIMMABLE)[0], []
    separate = {run.separate_of: run for run in study.with_role(SEPARATE)}
    for subnet in subnet_ids(study, SLIMMABLE):
        ours, alone = joint.subnet(subnet), separate[subnet].subnet(subnet)
        assert ours is not None, subnet
        assert alone is not None, subnet
        rows.append((subnet, str(ours.wer["test"]), str(alone.wer["test"]), *cost_cells(ours.costs)))
    columns = ("subnet", "WER % [95 %], one slimmable run", "WER %, four separate runs", *cost_columns())
    return Table("front", columns, tuple(rows))


def todm_table(study: Study) -> Table:
    """The max subnet of model F and some of its front, evenly spread, each beside a dedicated model of its size."""
    joint, rows = study.with_role("todm F")[0], []
    separate = {run.separate_of: run for run in study.with_role(SEPARATE)}
    front = [record for record in reversed(joint.front_records) if record.id != joint.largest.id]
    number = min(MOST_ROWS, len(front))
    chosen = [front[round(i * (len(front) - 1) / max(1, number - 1))] for i in range(number)]
    for record in [joint.largest, *chosen]:
        alone = separate[record.id].subnet(record.id) if record.id in separate else None
        dedicated = ABSENT if alone is None else str(alone.wer["test"])
        rows.append((architecture_cell(record), str(record.wer["test"]), dedicated, *cost_cells(record.costs)))
    columns = ("subnet", "WER % [95 %], one todm run", "WER %, dedicated model", *cost_columns())
    return Table("front", columns, tuple(rows))


def study_of(name: str) -> Study:
    """What a file of AN4's results holds."""
    return read_study(Report.load(ROOT / "egs/an4" / name))


def rendered() -> str:
    """README.md as it should be."""
    slimmable, todm = study_of("results.json"), study_of("results_todm.json")
    run, front = slimmable.with_role(SLIMMABLE)[0], todm.with_role("todm F")[0]
    text = (
        f"\nCMU AN4, its 130 test utterances, greedy search; {run.epochs} epochs on {run.hardware}."
        " Widths of a Conformer ([all results](egs/an4/RESULTS.md)):\n\n"
        f"{_rows(front_table(slimmable))}\n![WER against parameters]({PICTURE})\n\n"
        f"Depth and feed-forward size of every layer of an MH-SSM encoder, {front.epochs} epochs, then a search"
        f" ([all results](egs/an4/RESULTS_todm.md)):\n\n{_rows(todm_table(todm))}\n"
    )
    return MARKS.sub(lambda _: text, (ROOT / "README.md").read_text(encoding="utf-8"))


def _rows(table: Table) -> str:
    return table.markdown().split("\n", 2)[2]


def main() -> None:
    """Write the README, or compare it."""
    path = ROOT / "README.md"
    if "--check" in sys.argv[1:]:
        sys.exit(0 if path.read_text(encoding="utf-8") == rendered() else "README.md: run tools/readme_front.py")
    path.write_text(rendered(), encoding="utf-8")


if __name__ == "__main__":
    main()
