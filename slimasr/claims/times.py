"""Judge minutes of training, as far as they mean anything on a machine that also does other work."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from slimasr.claims.verdicts import all_of
from slimasr.report.findings import Verdict
from slimasr.report.records import Run

CLEARLY_LONGER = 1.25
"""Times whose ratio is below this factor may differ because of other work on the machine."""

TIMES_RULE = (
    f"Not resolved if the longer time is less than {100 * (CLEARLY_LONGER - 1):g} % above the other, or if a smaller "
    "separate model took longer than a larger one: other work on the machine can do that."
)
"""The sentence in a claim on times that explains how it is judged."""


def judge_times(joint: Run, alone: Sequence[Run], pairs: Sequence[tuple[float, float]]) -> tuple[Verdict, str]:
    """Judge "the first time is below the second one" for all pairs of times.

    Args:
        joint: the supernet.
        alone: the separate models, all of them with minutes.
        pairs: times that a claim compares, in minutes.

    Returns:
        The verdict, and the doubts about it as the end of a line of evidence, empty if there are none.
    """
    verdicts = [_shorter(first, second) for first, second in pairs]
    doubts = []
    if len({(run.hardware, run.epochs) for run in (joint, *alone)}) > 1:
        doubts.append("hardware or epochs differ")
    if not _are_in_order(alone):
        doubts.append("a smaller separate model took longer than a larger one")
    verdict = Verdict.NOT_RESOLVED if doubts else all_of(verdicts)
    # This doubt is part of the verdicts already, so that it is added after they were combined.
    if Verdict.NOT_RESOLVED in verdicts:
        doubts.append("times are near each other")
    return verdict, "".join(f"; {doubt}" for doubt in doubts)


def _are_in_order(alone: Sequence[Run]) -> bool:
    """Whether no model took longer than a larger one."""
    timed = [(run.largest.params, run.train_minutes or 0.0) for run in alone]
    for (size, minutes), (other_size, other_minutes) in product(timed, timed):
        if size < other_size and minutes > other_minutes:
            return False
    return True


def _shorter(ours: float, theirs: float) -> Verdict:
    """Verdict on "ours is clearly shorter than theirs"."""
    if max(ours, theirs) < CLEARLY_LONGER * min(ours, theirs):
        return Verdict.NOT_RESOLVED
    return Verdict.HELD if ours < theirs else Verdict.NOT_HELD
