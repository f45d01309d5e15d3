"""Write the report's files."""

from __future__ import annotations

from pathlib import Path

from slimasr.files import write_atomic
from slimasr.report import tables
from slimasr.report.claims import judge
from slimasr.report.page import render_page
from slimasr.report.pictures import write_pictures
from slimasr.report.plots import cost_plots, curve_plots, energy_plots, search_plots
from slimasr.report.records import Study
from slimasr.report.results_md import all_tables
from slimasr.report.strips import drawings
from slimasr.report.verdicts import Finding, Verdict


def write_report(study: Study, out: Path) -> list[Path]:
    """Write the page and, beside it, its pictures; returns all paths.

    Args:
        study: what is reported.
        out: the HTML file.
    """
    set_name = shown_set(study)
    plots = search_plots(study) + cost_plots(study, set_name) + energy_plots(study)
    shown = [table for table in all_tables(study) if table.rows]
    drawn, curves = drawings(study, set_name), curve_plots(study)
    page = render_page(f"Report: {study.recipe}", _lead(study), shown, plots, drawn, curves, _tested(study))
    write_atomic(out, page)
    return [out, *write_pictures(study, set_name, out.parent, out.stem)]


def shown_set(study: Study) -> str:
    """The set that plots show: the last one scored for every run, dev if there is no other."""
    names = tables.set_names(study)
    common = [name for name in names if all(any(name in s.wer for s in run.subnets) for run in study.runs)]
    return (common or names or ["dev"])[-1]


def _lead(study: Study) -> str:
    joint = [run for run in study.runs if not run.is_separate]
    separate = len(study.runs) - len(joint)
    subnets = sum(len(run.subnets) for run in joint)
    text = f"{len(joint)} supernet run{'s' if len(joint) != 1 else ''} with {subnets} measured subnets"
    return text + (f", beside {separate} separately trained models." if separate else ".")


def _tested(study: Study) -> list[Finding]:
    """Verdicts, where at least one claim could be tested: a lone supernet has nothing to be compared with."""
    findings = judge(study)
    return findings if any(f.verdict is not Verdict.NOT_TESTED for f in findings) else []
