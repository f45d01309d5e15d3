"""Verdicts on minutes of training, as far as those of a machine with other work tell anything."""

from __future__ import annotations

from collections.abc import Sequence

from slimasr.report.records import Run
from slimasr.report.verdicts import Verdict, all_of

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
        pairs: times that a claim holds against each other.
    """
    timed = [(run.largest.params, run.train_minutes or 0.0) for run in alone]
    reasons = {
        "hardware or epochs differ": len({(run.hardware, run.epochs) for run in (joint, *alone)}) > 1,
        "a smaller separate model took longer than a larger one": any(
            size < other and minutes > fewer for size, minutes in timed for other, fewer in timed
        ),
    }
    verdict = Verdict.NOT_RESOLVED if any(reasons.values()) else all_of(_shorter(*pair) for pair in pairs)
    reasons["times are near each other"] = any(_shorter(*pair) is Verdict.NOT_RESOLVED for pair in pairs)
    return verdict, "".join(f"; {reason}" for reason, holds in reasons.items() if holds)


def _shorter(ours: float, theirs: float) -> Verdict:
    if max(ours, theirs) < CLEARLY_LONGER * min(ours, theirs):
        return Verdict.NOT_RESOLVED
    return Verdict.HELD if ours < theirs else Verdict.NOT_HELD
