"""RESULTS.md of a recipe, written from its results.json and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from slimasr.report import tables, tables_todm
from slimasr.report.claims import judge
from slimasr.report.records import Study
from slimasr.report.roles import SLIMMABLE
from slimasr.report.verdicts import MARGIN, Finding


def render_results(study: Study, source: str) -> str:
    """The Markdown text.

    Args:
        study: what the recipe's results.json holds.
        source: its file name, for the opening line.
    """
    parts = [
        f"# Results: {study.recipe}\n",
        f"Generated from [{source}]({source}) by `slimasr-report`; do not edit.\n",
        *(table.markdown() for table in all_tables(study) if table.rows),
        _claims(study),
        _commands(study),
    ]
    return "\n".join(part for part in parts if part)


def all_tables(study: Study) -> list[tables.Table]:
    """The tables of a report, in order; some may be empty."""
    found = [tables.subnet_table(study)]
    slimmable = list(dict.fromkeys(run.role for run in study.runs if run.role.startswith(SLIMMABLE)))
    if slimmable and any(run.is_separate for run in study.runs):
        found.append(tables.comparison_table(study))
    if len(slimmable) > 1:
        found.append(tables.variant_table(study))
    found += [tables_todm.separate_table(study), tables_todm.model_table(study), tables_todm.search_table(study)]
    return [*found, tables.slice_table(study), tables.run_table(study)]


def _claims(study: Study) -> str:
    findings = judge(study)
    rows = tuple((f.claim, f.text, f.verdict.value) for f in findings)
    rule = _rule(findings) + (" Systems decoded by different searches are not compared." if _unlike(study) else "")
    table = tables.Table("Claims", ("claim", "what it says", "verdict"), rows, rule)
    evidence = "\n".join(_evidence(finding) for finding in findings if finding.evidence)
    return table.markdown() + ("\n" + evidence if evidence else "")


def _evidence(finding: Finding) -> str:
    lines = "\n".join(f"- {line}" for line in finding.evidence)
    return f"**{finding.claim}**\n\n{lines}\n"


def _unlike(study: Study) -> bool:
    """Whether the study's sets were decoded by more than one search."""
    wers = (wer for run in study.runs for subnet in run.subnets for wer in subnet.wer.values())
    return len({wer.decoding for wer in wers}) > 1


def _rule(findings: Sequence[Finding]) -> str:
    text = (
        f"Differences of WER are judged by their 95 % interval with a margin of {MARGIN:g} point. "
        '"At most" is held when the upper end is at most the margin, not held when otherwise the lower '
        'end is above 0. "Equivalent" is held when the interval lies within the margin on both sides, not '
        "held when otherwise it excludes 0. Everything between is not resolved. A claim that fails at one "
        "width is not held; of n comparisons one fails only if it also does by its interval of 100 - 5/n % "
        "(Bonferroni), as one of many differs by chance."
    )
    if any("(unpaired)" in line for finding in findings for line in finding.evidence):
        text += (
            ' "Unpaired": one side\'s errors on every utterance are not at hand, so the interval takes both sides as '
            "independent, which makes it wider."
        )
    if not any(finding.claim.startswith("C2") for finding in findings):
        return text
    return text.replace("at one width", "at one size") + (
        ' "Better" and "worse" are held when the interval lies on that side of 0 altogether, not held when it lies on '
        "the other. Subnets that a search chose are compared with the nearest size: the largest subnet of the front "
        "that is not larger than the other model, if the claim says no other, on the test sets alone, as the dev set "
        "made the choice; max and min subnets on all sets."
    )


def _commands(study: Study) -> str:
    blocks = [f"# {run.name}\n{run.command}" for run in study.runs if run.command]
    if not blocks:
        return ""
    return "## Commands\n\n```sh\n" + "\n".join(blocks) + "\n```\n"
