"""The comparisons that claims ask for, and the evidence that they make: the same for every paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from slimasr.claims.verdicts import Evidence, Rule, better, judge_all
from slimasr.report.comparison.families import Family, families
from slimasr.report.comparison.pairs import Pair
from slimasr.report.comparison.rates import Comparison, difference_in_words
from slimasr.report.findings import Verdict
from slimasr.report.pictures.picture import Picture
from slimasr.report.records import Run, Study

UNFAIR = ", but the epochs or the averaging windows differ"
"""What a line of evidence about unequal trainings ends with."""


@dataclass(frozen=True)
class Asked(Pair):
    """Two systems that a claim compares.

    Attributes:
        claim: which claim it is; empty if no claim is about these systems.
        what: which sizes they have, and what the claim says of them.
        rule: judges "the first is better than the second", or whatever the claim says.
        counts: whether the claim depends on it; else it is shown with the claim, without a verdict.
    """

    claim: str = ""
    what: str = ""
    rule: Rule = better
    counts: bool = True


@dataclass(frozen=True)
class Found:
    """A comparison that a claim asked for and that was made."""

    family: Family
    asked: Asked
    comparison: Comparison


def no_pictures(study: Study) -> list[Picture]:
    """Return the pictures of a paper that has none besides the report's."""
    return []


PairsOf = Callable[[Family], Iterable[Asked]]
"""Returns what a paper's claims compare within one family."""


def families_with(runs: Sequence[Run], is_ours: Callable[[Run], bool]) -> list[Family]:
    """Return the families that have a run of a paper."""
    return [family for family in families(runs) if any(map(is_ours, family.runs))]


def prefix_of(family: Family) -> str:
    """Return what a line of evidence about a family begins with; nothing for the first family of a report."""
    return f"{family.name}: " if family.name else ""


def found_for(study: Study, claim: str, within: Iterable[Family], pairs_of: PairsOf) -> list[Found]:
    """Return the comparisons that were made for a claim, in the order in which they are asked for."""
    found = []
    for family in within:
        for asked in pairs_of(family):
            comparison = study.compare(asked.a, asked.b)
            if asked.claim == claim and comparison is not None:
                found.append(Found(family, asked, comparison))
    return found


def line_of(study: Study, found: Found) -> str:
    """Write out a comparison: the family, what is compared, over which sets, and the figures."""
    asked = found.asked
    difference = difference_in_words(found.comparison, asked.a[0], asked.b[0])
    unfair = "" if is_fair(study, asked) else UNFAIR
    return f"{prefix_of(found.family)}{asked.what}, {' + '.join(found.comparison.sets)}: {difference}{unfair}"


def evidence_of(
    study: Study,
    found: Sequence[Found],
    judged: Callable[[Comparison], Comparison] | None = None,
    line: Callable[[Study, Found], str] = line_of,
) -> Evidence:
    """Judge the comparisons of one claim by their own rules, a line each; those of unequal trainings are not resolved.

    Args:
        found: the comparisons.
        judged: converts a comparison to the unit in which it is judged; None = points.
        line: writes out a comparison.
    """
    counted = [item for item in found if item.asked.counts]
    comparisons = [item.comparison if judged is None else judged(item.comparison) for item in counted]
    # All at once: the more comparisons a claim has, the more of them fail by chance.
    verdicts = judge_all([(item.asked.rule, made) for item, made in zip(counted, comparisons, strict=True)])
    evidence = Evidence()
    for item, verdict in zip(counted, verdicts, strict=True):
        evidence.add(line(study, item), verdict if is_fair(study, item.asked) else Verdict.NOT_RESOLVED)
    for item in found:
        if not item.asked.counts:
            evidence.note(line(study, item))
    return evidence


def is_fair(study: Study, asked: Asked) -> bool:
    """Return whether all seeds of both systems have the same number of epochs and the same averaging window."""
    whole = (asked.a[0], asked.b[0])
    roles = {system[0] for part in asked.parts for system in (part.a, part.b)} or whole
    runs = [run for role in roles for run in study.with_role(role)]
    windows = {run.average_start for run in runs if run.average_start is not None}
    return len({run.epochs for run in runs}) == 1 and len(windows) <= 1
