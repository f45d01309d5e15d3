#!/usr/bin/env python3
"""Write every egs/*/RESULTS*.md from the file of results in the same folder; the experiments are not needed.

With ``--check`` nothing is written; with exit status 1, the message names the files that are out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from pages import ROOT, judges_claims, results_files, results_page

from slimasr.claims import claims_of
from slimasr.report.findings import NO_CLAIMS
from slimasr.report.records import read_study
from slimasr.report.results_md import render_results
from slimasr.results.report import Report


def rendered() -> Iterator[tuple[Path, str]]:
    """Yield every page with the text that it should have: results with the papers' claims, then models on devices."""
    for path in results_files():
        study = read_study(Report.load(path))
        claims = claims_of(study) if judges_claims(path) else NO_CLAIMS
        yield results_page(path), render_results(study, path.name, claims)
    # They are of several papers, without the baselines that claims need.
    for path in sorted(ROOT.glob("egs/*/deployed.json")):
        yield path.with_name("RESULTS_deploy.md"), render_results(read_study(Report.load(path)), path.name)


def main() -> None:
    """Write the files, or with ``--check`` compare them."""
    stale = []
    for page, text in rendered():
        if page.exists() and page.read_text(encoding="utf-8") == text:
            continue
        stale.append(str(page.relative_to(ROOT)))
        if "--check" not in sys.argv[1:]:
            page.write_text(text, encoding="utf-8")
    if stale and "--check" in sys.argv[1:]:
        sys.exit(f"run tools/results_md.py: {', '.join(stale)}")


if __name__ == "__main__":
    main()
