"""RESULTS.md of a recipe, written from its results.json and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slimasr.report import tables
from slimasr.report.claims import MARGIN, Finding, judge
from slimasr.report.collect import fronts_of
from slimasr.report.records import Study, read_study


def render_results(data: Mapping[str, Any], source: str) -> str:
    """The Markdown text.

    Args:
      data: content of the recipe's results.json.
      source: its file name, for the opening line.
    """
    study = read_study(data)
    parts = [
        f"# Results: {study.recipe}\n",
        f"Generated from [{source}]({source}) by `slimasr-report`; do not edit.\n",
        *(table.markdown() for table in all_tables(study, fronts_of(data)) if table.rows),
        _claims(study),
        _commands(study),
    ]
    return "\n".join(part for part in parts if part)


def all_tables(study: Study, fronts: dict[str, set[str]]) -> list[tables.Table]:
    """The tables of a report, in order; some may be empty."""
    found = [tables.subnet_table(study, fronts)]
    if any(run.is_separate for run in study.runs):
        found.append(tables.comparison_table(study))
    if len({run.role for run in study.runs if not run.is_separate}) > 1:
        found.append(tables.variant_table(study))
    return [*found, tables.slice_table(study), tables.run_table(study)]


def _claims(study: Study) -> str:
    findings = judge(study)
    rows = tuple((f.claim, f.text, f.verdict.value) for f in findings)
    table = tables.Table("Claims", ("claim", "what it says", "verdict"), rows, _rule())
    evidence = "\n".join(_evidence(finding) for finding in findings if finding.evidence)
    return table.markdown() + ("\n" + evidence if evidence else "")


def _evidence(finding: Finding) -> str:
    lines = "\n".join(f"- {line}" for line in finding.evidence)
    return f"**{finding.claim}**\n\n{lines}\n"


def _rule() -> str:
    return (
        f"Differences of WER are judged by their 95 % interval with a margin of {MARGIN:g} point. "
        '"At most" is held when the upper end is at most the margin, not held when otherwise the lower '
        'end is above 0. "Equivalent" is held when the interval lies within the margin on both sides, not '
        "held when otherwise it excludes 0. Everything between is not resolved. A claim that fails at one "
        "width is not held."
    )


def _commands(study: Study) -> str:
    blocks = [f"# {run.name}\n{run.command}" for run in study.runs if run.command]
    if not blocks:
        return ""
    return "## Commands\n\n```sh\n" + "\n".join(blocks) + "\n```\n"
