"""Measure what a teacher does early and late in the training of TODM (claims C2.4 and C2.6 of paper 2)."""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np

from slimasr.claims.asked import prefix_of
from slimasr.claims.todm.models import of_model, todm_families
from slimasr.claims.todm.pairs import ENDS, end_of
from slimasr.claims.verdicts import Evidence, better
from slimasr.report.findings import Finding, Verdict
from slimasr.report.records import Run, Study

TWO_THIRDS = 2 / 3
WINDOW = 0.1
"""Fraction of the epochs, before two thirds of the run, whose dev WERs are used, as single epochs are noisy."""

GAINS = {"max": -10.0, "min": -4.0}
"""Relative changes of WER, in percent, that paper 2 reports at two thirds of the training (table 2, G against C)."""

TAUGHT = ("G", "E", "F", "D", "I", "J", "L")
"""Models with a teacher, the preferred one first. F is E until its last third."""

_HALVES = {"C": "the harm needs C, and D or E", "F": "the repair needs both E and F"}
"""Models that the two halves of C2.6 need, and what to say of a study without them."""


def teaching_helps_early(study: Study) -> Finding:
    """Judge C2.4: at two thirds of the epochs a teacher has improved max by 10 %, min by 4 % (relative)."""
    text = (
        f"At two thirds of the epochs distillation has lowered dev WER by at least {-GAINS['max']:g} % for max and "
        f"{-GAINS['min']:g} % for min (relative), for max most (epoch weights; C is the model without)."
    )
    evidence = Evidence()
    for family in todm_families(study.runs):
        plain = of_model(family.runs, "C")
        taught = _first_taught(family.runs)
        if plain is not None and taught is not None:
            _add_changes(evidence, prefix_of(family), taught, plain)
    return evidence.finding("C2.4", text)


def _first_taught(runs: Sequence[Run]) -> Run | None:
    found = [of_model(runs, model) for model in TAUGHT]
    return next((run for run in found if run is not None), None)


def _add_changes(evidence: Evidence, prefix: str, taught: Run, plain: Run) -> None:
    """Add the changes of max and of min, and which of them is the larger one."""
    changes = {end: relative_changes(taught, plain, end) for end in ENDS}
    # One of the runs has no validations, or the runs have different numbers of them.
    if not all(changes.values()):
        return
    for end, least in GAINS.items():
        # The range over the epochs serves as the interval. Gains are negative, as WERs fall.
        low = min(changes[end])
        high = max(changes[end])
        verdict = Verdict.NOT_RESOLVED
        if taught.epochs == plain.epochs:
            verdict = better(low - least, high - least)
        evidence.add(
            f"{prefix}{end}, {taught.role} against {plain.role}: {np.mean(changes[end]):+.1f} % on average, "
            f"from {low:+.1f} to {high:+.1f}, over {len(changes[end])} epochs",
            verdict,
        )
    evidence.add(f"{prefix}max more than min", _apart(changes["max"], changes["min"]))


def missing_halves(shown: Set[str]) -> list[str]:
    """Say what a study lacks for the whole of C2.6.

    Args:
        shown: models that are better than another one if the claim holds. Nothing is said if there are none.
    """
    if not shown:
        return []
    return [text for model, text in _HALVES.items() if model not in shown]


def min_at_two_thirds(study: Study) -> list[str]:
    """Write out the dev WER of the min subnets at two thirds of the epochs and at the end."""
    lines = []
    for family in todm_families(study.runs):
        for model in ("C", "D", "E", "F"):
            run = of_model(family.runs, model)
            if run is None:
                continue
            late = late_wers(run, run.smallest.id)
            if not late:
                continue
            _, end = dev_wers(run, run.smallest.id)[-1]
            lines.append(
                f"{prefix_of(family)}min of {run.role}, dev: {np.mean(late):.2f} % at two thirds of the epochs, "
                f"{end:.2f} % at the end (epoch weights)"
            )
    return lines


def relative_changes(taught: Run, plain: Run, end: str) -> list[float]:
    """Return the relative changes of dev WER by a teacher, epoch by epoch before two thirds of the run.

    Args:
        taught: the run with a teacher.
        plain: the run without.
        end: ``max`` or ``min``.

    Returns:
        Changes in percent, negative if the teacher helps; none if the runs have different numbers of validations.
    """
    ours = late_wers(taught, end_of(taught, end).id)
    theirs = late_wers(plain, end_of(plain, end).id)
    if len(ours) != len(theirs):
        return []
    changes = []
    for with_teacher, without in zip(ours, theirs, strict=True):
        # A WER of 0 has no relative change.
        if without > 0:
            changes.append(100.0 * (with_teacher / without - 1.0))
    return changes


def late_wers(run: Run, subnet: str) -> list[float]:
    """Return the dev WERs, in percent, of the epochs just before two thirds of the run are over."""
    last = round(TWO_THIRDS * run.epochs)
    # At least one epoch, also in runs that are shorter than 1 / WINDOW epochs.
    first = min(last, round((TWO_THIRDS - WINDOW) * run.epochs) + 1)
    return [wer for epoch, wer in dev_wers(run, subnet) if first <= epoch <= last]


def dev_wers(run: Run, subnet: str) -> list[tuple[int, float]]:
    """Return (epoch, dev WER in percent) of a subnet for every epoch in which it was validated."""
    key = f"{subnet}/wer"
    return [(point.epoch, point.values[key]) for point in run.curve if key in point.values]


def _apart(more: Sequence[float], less: Sequence[float]) -> Verdict:
    """Verdict on "the first changes are below the second ones", by their ranges over the epochs."""
    if max(more) < min(less):
        return Verdict.HELD
    return Verdict.NOT_HELD if min(more) >= max(less) else Verdict.NOT_RESOLVED
