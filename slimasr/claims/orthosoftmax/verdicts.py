"""Judge the claims of paper 4, most of them by comparisons of two systems."""

from __future__ import annotations

import math

from slimasr.claims.asked import Found, evidence_of, found_for, is_fair, prefix_of
from slimasr.claims.orthosoftmax.masks import masks_are_binary
from slimasr.claims.orthosoftmax.models import AUX_LOSS, MAIN, found, mask_families
from slimasr.claims.orthosoftmax.pairs import MEDIUM, family_pairs
from slimasr.claims.orthosoftmax.shapes import what_is_kept
from slimasr.claims.verdicts import Evidence, better
from slimasr.report.architecture import depth
from slimasr.report.comparison.families import Family
from slimasr.report.comparison.pairs import matches
from slimasr.report.findings import Finding, Verdict
from slimasr.report.records import Run, Study

READING = (
    '"Better" is held when the interval lies below 0 altogether, not held when it lies above. A learnt subnet is '
    "compared with the separate model of its budget, over dev and test sets together; min is the subnet of the "
    "smallest budget. The paper counts updates. An update takes unequal time: in step 1 two passes of the whole model, "
    "in step 2 one and the shares that two subnets have of its cost, in separate training one of its model."
)

_TEXTS = {
    "C4.1": "OrthoSoftmax with MACs and components is at most as bad as the separate model at every size (in equal "
    "epochs).",
    "C4.2": "At min, components are better than layers for OrthoSoftmax, and worse for Top-k and L0 (for OrthoSoftmax, "
    "the paper's own figures say so with MACs alone: 8.0 against 8.1 %, with parameters 8.2 against 8.1 %).",
    "C4.3": f"{AUX_LOSS} is worse than separate models at min, by more than at the next larger size.",
    "C4.4": "At equal granularity, budgets of MACs are at most as bad as budgets of parameters, at min (in the paper "
    "generally so, but not for the medium size on LibriSpeech).",
    "C4.5": "The focal scale balances both sizes: at max and min it is at most as bad as any number, and at min better "
    "than 0.1, which ruins the small subnet.",
    "C4.6": "A weight of the orthogonality that rises from 0 to 1 is better than a constant one, and a large constant "
    "is worse than a small one, at min (the paper's own figures say the former at max alone).",
}


def judge(study: Study) -> list[Finding]:
    """Judge all eight claims, in order."""
    return [
        as_good_as_separate(study),
        compared(study, "C4.2"),
        exits_degrade(study),
        compared(study, "C4.4"),
        compared(study, "C4.5"),
        compared(study, "C4.6"),
        what_is_kept(study),
        masks_are_binary(study),
    ]


def compared(study: Study, claim: str) -> Finding:
    """Judge a claim that must hold in all comparisons made for it."""
    return evidence_of(study, _found(study, claim)).finding(claim, _TEXTS[claim])


def _found(study: Study, claim: str) -> list[Found]:
    return found_for(study, claim, mask_families(study.runs), family_pairs)


def as_good_as_separate(study: Study) -> Finding:
    """Judge C4.1 by comparisons, and note what both sides took in updates and in minutes."""
    evidence = evidence_of(study, _found(study, "C4.1"))
    for family in mask_families(study.runs):
        main = found(family.runs, MAIN)
        models = [match.model for match in matches(main, family.dedicated)] if main is not None else []
        if main is not None and models:
            taken = "; ".join(_taken(run, f"{depth(run.largest.architecture)} blocks") for run in models)
            evidence.note(f"{prefix_of(family)}{_taken(main, main.role)}; separate: {taken}")
    return evidence.finding("C4.1", _TEXTS["C4.1"])


def _taken(run: Run, name: str) -> str:
    minutes = "unknown time" if run.train_minutes is None else f"{run.train_minutes:.1f} min"
    return f"{name} {run.steps:,} updates in {minutes}"


def exits_degrade(study: Study) -> Finding:
    """Judge C4.3: separate models are better than the exits at min, and by more than at the next larger exit."""
    smallest = _found(study, "C4.3")
    evidence = evidence_of(study, smallest)
    medium = {item.family.name: item for item in _found(study, MEDIUM)}
    for item in smallest:
        if item.family.name in medium:
            _add_growth(evidence, study, item.family, item, medium[item.family.name])
    return evidence.finding("C4.3", _TEXTS["C4.3"])


def _add_growth(evidence: Evidence, study: Study, family: Family, smallest: Found, medium: Found) -> None:
    """Add whether the gap at min exceeds that at the medium size.

    Both gaps are taken as independent, which makes the interval of their difference wider than it is.
    """
    low_end, high_end = smallest.comparison, medium.comparison
    # Separate models come first, so that their lead is a negative difference.
    growth = high_end.delta - low_end.delta
    below = math.hypot(high_end.delta - high_end.low, low_end.high - low_end.delta)
    above = math.hypot(high_end.high - high_end.delta, low_end.delta - low_end.low)
    fair = is_fair(study, smallest.asked) and is_fair(study, medium.asked)
    verdict = better(-(growth + above), -(growth - below)) if fair else Verdict.NOT_RESOLVED
    evidence.add(
        f"{prefix_of(family)}gap {-low_end.delta:+.2f} at min and {-high_end.delta:+.2f} at the next larger size, "
        f"growth {growth:+.2f} [{growth - below:+.2f}, {growth + above:+.2f}] (as if both were independent)",
        verdict,
    )
