"""Write RESULTS.md of a recipe from its results.json and nothing else."""

from __future__ import annotations

from slimasr.report.findings import NO_CLAIMS, Claims, Finding
from slimasr.report.records import Study
from slimasr.report.tables import common
from slimasr.report.tables.deployed import deployed_table
from slimasr.report.tables.latency import latency_table
from slimasr.report.tables.masks import mask_tables
from slimasr.report.tables.robustness import robustness_table
from slimasr.report.tables.runs import run_table, time_table
from slimasr.report.tables.table import Table


def render_results(study: Study, source: str, claims: Claims = NO_CLAIMS) -> str:
    """Return the Markdown text.

    Args:
        study: what the recipe's results.json holds.
        source: its file name, for the opening line.
        claims: what is shown about claims.
    """
    parts = [
        f"# Results: {study.recipe}\n",
        f"Generated from [{source}]({source}) by `slimasr-report`; do not edit.\n",
    ]
    parts += [table.markdown() for table in all_tables(study, claims) if table.rows]
    parts += [_claims(claims), _commands(study)]
    # Every part ends in a line break, so that joining them leaves one empty line between two.
    return "\n".join(part for part in parts if part)


def all_tables(study: Study, claims: Claims = NO_CLAIMS) -> list[Table]:
    """The tables of a report, in order; some may be empty."""
    return [
        common.subnet_table(study),
        common.separate_table(study),
        *claims.tables,
        *mask_tables(study),
        common.search_table(study),
        common.slice_table(study),
        latency_table(study),
        deployed_table(study),
        robustness_table(study),
        run_table(study),
        time_table(study),
    ]


def _claims(claims: Claims) -> str:
    if not claims.findings:
        return ""
    rows = tuple((finding.claim, finding.text, finding.verdict.value) for finding in claims.findings)
    table = Table("Claims", ("claim", "what it says", "verdict"), rows, claims.reading)
    evidence = [_evidence(finding) for finding in claims.findings if finding.evidence]
    return "\n".join([table.markdown(), *evidence])


def _evidence(finding: Finding) -> str:
    lines = "\n".join(f"- {line}" for line in finding.evidence)
    return f"**{finding.claim}**\n\n{lines}\n"


def _commands(study: Study) -> str:
    blocks = [f"# {run.name}\n{run.command}" for run in study.runs if run.command]
    if not blocks:
        return ""
    return "## Commands\n\n```sh\n" + "\n".join(blocks) + "\n```\n"
