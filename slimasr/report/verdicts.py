"""What figures say of a claim, by rule alone.

Differences of WER come as paired-bootstrap intervals ``[low, high]`` in points. With a margin of one point:

- "A is at most as bad as B" is *held* when ``high <= margin``, *not held* when ``low > 0`` otherwise, else
  *not resolved*;
- "A equals B" is *held* when the interval lies within plus or minus the margin, *not held* when it excludes 0
  otherwise, else *not resolved*;
- "A is better than B" is *held* when ``high < 0``, *not held* when ``low > 0``, else *not resolved*.

A claim that must hold at several sizes is *not held* as soon as it fails at one, and *held* when it holds at all. As
one of many fails by chance, see `judge_each`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from statistics import NormalDist

from slimasr.report.records import Comparison

MARGIN = 1.0


class Verdict(Enum):
    """What the figures say of a claim."""

    HELD = "held"
    NOT_HELD = "not held"
    NOT_RESOLVED = "not resolved"
    NOT_TESTED = "not tested"


Rule = Callable[[float, float], Verdict]
"""Verdict on the ends of an interval."""


@dataclass(frozen=True)
class Finding:
    """A claim, its verdict and the figures behind it (one line each)."""

    claim: str
    text: str
    verdict: Verdict
    evidence: tuple[str, ...] = ()


def not_worse(low: float, high: float, margin: float = MARGIN) -> Verdict:
    """Verdict on "the difference is at most 0", given its interval."""
    if high <= margin:
        return Verdict.HELD
    return Verdict.NOT_HELD if low > 0 else Verdict.NOT_RESOLVED


def equal(low: float, high: float, margin: float = MARGIN) -> Verdict:
    """Verdict on "the difference is 0", given its interval."""
    if -margin <= low and high <= margin:
        return Verdict.HELD
    return Verdict.NOT_HELD if low > 0 or high < 0 else Verdict.NOT_RESOLVED


def better(low: float, high: float) -> Verdict:
    """Verdict on "the difference is below 0", given its interval."""
    if high < 0:
        return Verdict.HELD
    return Verdict.NOT_HELD if low > 0 else Verdict.NOT_RESOLVED


def judge_each(rule: Rule, comparisons: Sequence[Comparison]) -> list[Verdict]:
    """Verdicts on the comparisons of one claim, which must all hold.

    All of n hold at once by chance more seldom than any one of them, so 95 % intervals do for that. But one of them
    fails by chance n times as often as a single one: it is not resolved unless it fails by its interval of 100 - 5/n %
    too (Bonferroni).
    """
    verdicts = []
    for comparison in comparisons:
        wide = one_of(comparison, len(comparisons))
        verdict, careful = rule(comparison.low, comparison.high), rule(wide.low, wide.high)
        by_chance = verdict is Verdict.NOT_HELD and careful is not Verdict.NOT_HELD
        verdicts.append(Verdict.NOT_RESOLVED if by_chance else verdict)
    return verdicts


def one_of(comparison: Comparison, number: int) -> Comparison:
    """With its 95 % interval widened to ``100 - 5 / number`` %, taken as that of a normal law."""
    law = NormalDist()
    factor = law.inv_cdf(1 - 0.025 / number) / law.inv_cdf(1 - 0.025)
    low, high = (comparison.delta + factor * (end - comparison.delta) for end in (comparison.low, comparison.high))
    return replace(comparison, low=low, high=high)


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Verdict on a claim that must hold everywhere; nothing to look at = not tested."""
    seen = set(verdicts)
    for verdict in (Verdict.NOT_HELD, Verdict.NOT_RESOLVED, Verdict.HELD):
        if verdict in seen:
            return verdict
    return Verdict.NOT_TESTED
