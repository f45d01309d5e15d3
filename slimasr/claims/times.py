"""Verdicts on minutes of training, as far as those of a machine with other work tell anything."""

from __future__ import annotations

from collections.abc import Sequence

from slimasr.claims.verdicts import all_of
from slimasr.report.findings import Verdict
from slimasr.report.records import Run

CLEARLY_LONGER = 1.25
"""Times nearer to each other than this factor may differ by what else their machine did."""

TIMES_RULE = (
    f"Not resolved if the longer time is less than {100 * (CLEARLY_LONGER - 1):g} % above the other, or if a smaller "
    "separate model took longer than a larger one: other work on the machine can do that."
)
"""What a claim on times says of how it is judged."""


def judge_times(joint: Run, alone: Sequence[Run], pairs: Sequence[tuple[float, float]]) -> tuple[Verdict, str]:
    """Verdict on "the first time is below the second one" for all pairs, and what speaks against one, in words.

    Args:
        joint: the supernet.
        alone: the dedicated models, with minutes.
        pairs: times that a claim compares.
    """
    verdicts = [_shorter(first, second) for first, second in pairs]
    doubts = []
    if len({(run.hardware, run.epochs) for run in (joint, *alone)}) > 1:
        doubts.append("hardware or epochs differ")
    if not _are_in_order(alone):
        doubts.append("a smaller separate model took longer than a larger one")
    verdict = Verdict.NOT_RESOLVED if doubts else all_of(verdicts)
    if Verdict.NOT_RESOLVED in verdicts:
        doubts.append("times are near each other")
    return verdict, "".join(f"; {doubt}" for doubt in doubts)


def _are_in_order(alone: Sequence[Run]) -> bool:
    """Whether no model took longer than a larger one."""
    timed = [(run.largest.params, run.train_minutes or 0.0) for run in alone]
    return not any(size < other and minutes > fewer for size, minutes in timed for other, fewer in timed)


def _shorter(ours: float, theirs: float) -> Verdict:
    if max(ours, theirs) < CLEARLY_LONGER * min(ours, theirs):
        return Verdict.NOT_RESOLVED
    return Verdict.HELD if ours < theirs else Verdict.NOT_HELD
