"""Judge claims from figures, by fixed rules alone.

Differences of WER come as paired-bootstrap intervals ``[low, high]`` in points. With a margin of one point:

- "A is at most as bad as B" is *held* when ``high <= margin``, *not held* when ``low > 0`` otherwise, else
  *not resolved*;
- "A equals B" is *held* when the interval lies within plus or minus the margin, *not held* when it excludes 0
  otherwise, else *not resolved*;
- "A is better than B" is *held* when ``high < 0``, *not held* when ``low > 0``, else *not resolved*.

A claim that must hold at several sizes is *not held* as soon as it fails at one of them, and *held* when it holds at
all of them. Of many comparisons one may fail by chance: see `judge_all`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import NormalDist

from slimasr.report.comparison.rates import Comparison
from slimasr.report.findings import Finding, Verdict

MARGIN = 1.0
"""Differences of WER up to this many points count as none."""

Rule = Callable[[float, float], Verdict]
"""Returns the verdict on an interval, given its lower and its upper end in points."""


def not_worse(low: float, high: float, margin: float = MARGIN) -> Verdict:
    """Judge "the difference is at most 0", given its interval."""
    # The order matters: an interval between 0 and the margin holds, although it excludes 0.
    if high <= margin:
        return Verdict.HELD
    return Verdict.NOT_HELD if low > 0 else Verdict.NOT_RESOLVED


def equal(low: float, high: float, margin: float = MARGIN) -> Verdict:
    """Judge "the difference is 0", given its interval."""
    if -margin <= low and high <= margin:
        return Verdict.HELD
    return Verdict.NOT_HELD if low > 0 or high < 0 else Verdict.NOT_RESOLVED


def better(low: float, high: float) -> Verdict:
    """Judge "the difference is below 0", given its interval."""
    if high < 0:
        return Verdict.HELD
    return Verdict.NOT_HELD if low > 0 else Verdict.NOT_RESOLVED


def judge_each(rule: Rule, comparisons: Sequence[Comparison]) -> list[Verdict]:
    """Judge the comparisons of one claim, which must all hold by one rule; see `judge_all`."""
    return judge_all([(rule, comparison) for comparison in comparisons])


def judge_all(parts: Sequence[tuple[Rule, Comparison]]) -> list[Verdict]:
    """Judge the comparisons of one claim, which must all hold, each by a rule of its own.

    A claim on n comparisons needs all of them, which chance alone makes less likely than any single one, so each of
    them may hold at 95 %. But with n comparisons a spurious failure is about n times as likely, so that a failure
    counts only if it is also one at 100 - 5/n % (Bonferroni); otherwise the comparison is not resolved.
    """
    verdicts = []
    for rule, comparison in parts:
        wide = one_of(comparison, len(parts))
        verdict = rule(comparison.low, comparison.high)
        if verdict is Verdict.NOT_HELD and rule(wide.low, wide.high) is not Verdict.NOT_HELD:
            verdict = Verdict.NOT_RESOLVED
        verdicts.append(verdict)
    return verdicts


def one_of(comparison: Comparison, number: int) -> Comparison:
    """Widen the 95 % interval of a comparison to ``100 - 5 / number`` %, as for a normal distribution."""
    normal = NormalDist()
    # Each side of the interval leaves out half of the 5 / number %.
    factor = normal.inv_cdf(1 - 0.025 / number) / normal.inv_cdf(1 - 0.025)
    # Both ends move away from the difference itself, so that an interval that is not symmetric stays so.
    low = comparison.delta + factor * (comparison.low - comparison.delta)
    high = comparison.delta + factor * (comparison.high - comparison.delta)
    return replace(comparison, low=low, high=high)


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Combine the verdicts on a claim that must hold everywhere; a claim without any is not tested."""
    seen = set(verdicts)
    # The worst one counts.
    for verdict in (Verdict.NOT_HELD, Verdict.NOT_RESOLVED, Verdict.HELD):
        if verdict in seen:
            return verdict
    return Verdict.NOT_TESTED


class Evidence:
    """Collects the verdicts that make up the one on a claim, and a line of figures for each of them."""

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []
        self.lines: list[str] = []

    def add(self, line: str, verdict: Verdict) -> None:
        """Add a line of figures that speaks for one verdict."""
        self.verdicts.append(verdict)
        self.lines.append(f"{line}: {verdict.value}")

    def note(self, line: str) -> None:
        """Add a line of figures on which the verdict does not depend."""
        self.lines.append(f"{line} (not part of the verdict)")

    def finding(self, claim: str, text: str) -> Finding:
        """Return the verdict on a claim that must hold in every line."""
        return Finding(claim, text, all_of(self.verdicts), tuple(self.lines))


def reading_of(findings: Sequence[Finding]) -> str:
    """Explain how to read the verdicts that all papers use."""
    if not findings:
        return ""
    text = (
        f"Differences of WER are judged by their 95 % interval with a margin of {MARGIN:g} point. "
        '"At most" is held when the upper end is at most the margin, not held when otherwise the lower '
        'end is above 0. "Equivalent" is held when the interval lies within the margin on both sides, not '
        "held when otherwise it excludes 0. Everything between is not resolved. A claim that fails at one "
        "size is not held; of n comparisons one fails only if it also does by its interval of 100 - 5/n % "
        "(Bonferroni), as one of many differs by chance."
    )
    if any("(unpaired)" in line for finding in findings for line in finding.evidence):
        text += (
            ' "Unpaired": one side\'s errors on every utterance are not available, so the interval takes both sides as '
            "independent, which makes it wider."
        )
    return text
