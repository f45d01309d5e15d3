#!/usr/bin/env python3
"""Write the verdicts on the papers' claims into docs/papers.md, between its two ``verdicts`` marks.

They are those of all egs/*/results*.json that are made for a paper. With ``--check`` nothing is written; exit status 1
means that the page is out of date.
"""

from __future__ import annotations

import re
from collections import defaultdict

from pages import ROOT, judges_claims, results_files, results_page, write_or_check

from slimasr.claims import claims_of
from slimasr.report.findings import Verdict
from slimasr.report.records import read_study
from slimasr.report.tables.table import ABSENT, Table
from slimasr.results.report import Report

PAGE = ROOT / "docs" / "papers.md"
# The marks themselves are not part of the match, so that they stay.
MARKS = re.compile(r"(?<=<!-- verdicts -->\n).*?(?=<!-- /verdicts -->)", re.DOTALL)


def verdict_table() -> Table:
    """Make one row per claim, with the pages of the results by which it is held, not held, or not resolved."""
    by_claim: dict[str, dict[Verdict, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in filter(judges_claims, results_files()):
        study = read_study(Report.load(path))
        page = results_page(path).relative_to(ROOT)
        for finding in claims_of(study).findings:
            by_claim[finding.claim][finding.verdict].append(f"[{study.recipe}](../{page})")
    shown = (Verdict.HELD, Verdict.NOT_HELD, Verdict.NOT_RESOLVED)
    rows = [(claim, *("; ".join(found[verdict]) or ABSENT for verdict in shown)) for claim, found in by_claim.items()]
    return Table("Verdicts", ("claim", *(verdict.value for verdict in shown)), tuple(sorted(rows, key=_order)))


def _order(row: tuple[str, ...]) -> list[int]:
    """C2.10 comes after C2.9."""
    return [int(number) for number in row[0].lstrip("C").split(".")]


def rendered() -> str:
    """Return docs/papers.md as it should be."""
    # The table's title stands on the page already.
    rows = verdict_table().markdown().split("\n", 2)[2]
    # A function, because backslashes in a replacement text would be read as escapes.
    return MARKS.sub(lambda _: f"\n{rows}\n", PAGE.read_text(encoding="utf-8"))


def main() -> None:
    """Write the page, or with ``--check`` compare it."""
    write_or_check(PAGE, rendered(), "verdicts.py")


if __name__ == "__main__":
    main()
