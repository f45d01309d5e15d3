#!/usr/bin/env python3
"""Write AN4's front into README.md, between its two ``front`` marks, from egs/an4/results.json alone.

With ``--check`` nothing is written: exit status 1 says that the README is out of date.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from slimasr.report.claims_slimmable import subnet_ids
from slimasr.report.records import Study, read_study
from slimasr.report.roles import SEPARATE, SLIMMABLE
from slimasr.report.tables import Table, cost_cells, cost_columns

ROOT = Path(__file__).resolve().parent.parent
PICTURE = "egs/an4/report-wer-params.png"
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


def rendered() -> str:
    """README.md as it should be."""
    study = read_study(json.loads((ROOT / "egs/an4/results.json").read_text(encoding="utf-8")))
    minutes = study.with_role(SLIMMABLE)[0]
    table = front_table(study).markdown().split("\n", 2)[2]
    text = (
        f"\nCMU AN4, its 130 test utterances, greedy search; {minutes.epochs} epochs on {minutes.hardware}"
        f" ([all results](egs/an4/RESULTS.md)):\n\n{table}\n![WER against parameters]({PICTURE})\n\n"
    )
    return MARKS.sub(lambda _: text, (ROOT / "README.md").read_text(encoding="utf-8"))


def main() -> None:
    """Write the README, or compare it."""
    path = ROOT / "README.md"
    if "--check" in sys.argv[1:]:
        sys.exit(0 if path.read_text(encoding="utf-8") == rendered() else "README.md: run tools/readme_front.py")
    path.write_text(rendered(), encoding="utf-8")


if __name__ == "__main__":
    main()
