"""What figures say of a claim, by rule alone.

Differences of WER come as paired-bootstrap intervals ``[low, high]`` in points. With a margin of one point:

- "A is at most as bad as B" is *held* when ``high <= margin``, *not held* when ``low > 0`` otherwise, else
  *not resolved*;
- "A equals B" is *held* when the interval lies within plus or minus the margin, *not held* when it excludes 0
  otherwise, else *not resolved*;
- "A is better than B" is *held* when ``high < 0``, *not held* when ``low > 0``, else *not resolved*.

A claim that must hold at several sizes is *not held* as soon as it fails at one, and *held* when it holds at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

MARGIN = 1.0


class Verdict(Enum):
    """What the figures say of a claim."""

    HELD = "held"
    NOT_HELD = "not held"
    NOT_RESOLVED = "not resolved"
    NOT_TESTED = "not tested"


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


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Verdict on a claim that must hold everywhere; nothing to look at = not tested."""
    seen = set(verdicts)
    for verdict in (Verdict.NOT_HELD, Verdict.NOT_RESOLVED, Verdict.HELD):
        if verdict in seen:
            return verdict
    return Verdict.NOT_TESTED
