"""Judge the claims of paper 2, most of them by comparisons of two systems."""

from __future__ import annotations

from slimasr.claims.asked import Found, evidence_of, found_for, prefix_of
from slimasr.claims.times import TIMES_RULE, judge_times
from slimasr.claims.todm.models import main_todm, todm_families
from slimasr.claims.todm.pairs import EQUAL_FRACTION, todm_pairs
from slimasr.claims.todm.shapes import no_evident_pattern
from slimasr.claims.todm.teaching import min_at_two_thirds, missing_halves, teaching_helps_early
from slimasr.claims.verdicts import Evidence
from slimasr.report.findings import Finding, Verdict
from slimasr.report.records import Study

PAPER_SIZES = 3
"""How many separate models paper 2 trains besides its supernet."""

READING = (
    '"Better" and "worse" are held when the interval lies on that side of 0 altogether, not held when it lies on '
    "the other. Subnets that a search chose are compared with the nearest size: the largest subnet of the Pareto front "
    "that is not larger than the other model, if the claim says no other, on the test sets alone, as the dev set "
    "made the choice; max and min subnets on all sets."
)

_COMPARED = {
    "C2.1": "F's max subnet is better than the separately trained model of its size.",
    "C2.2": "F's smaller subnets are at most as bad as separate models of their size.",
    "C2.3": (
        "At medium sizes (the lowest third of B0's), layers and channels (B1) beat channels alone (B0): each "
        "subnet of B1's front against the one of B0's that is nearest in size, if their parameters differ by at "
        f"most {100 * EQUAL_FRACTION:g} %."
    ),
    "C2.5": "The divergence (alpha or KL) and the number of its classes make no difference.",
    "C2.6": "Distillation at full weight to the end (D, E) leaves min worse than none (C), and F repairs it.",
    "C2.7": "Adaptive dropout (C) makes the min subnet better than without (B1).",
    "C2.9": "A subnet of B1 is better than the smallest exit of a model with several (A3).",
    "C2.10": "ScaledAdam from the start ends worse than AdamW: it does not converge fully.",
}
"""Claims that the comparisons made for them decide."""


def judge(study: Study) -> list[Finding]:
    """Judge all eleven claims, in order."""
    return [
        compared(study, "C2.1"),
        compared(study, "C2.2"),
        compared(study, "C2.3"),
        teaching_helps_early(study),
        compared(study, "C2.5"),
        teaching_harms_late(study),
        compared(study, "C2.7"),
        constant_cost(study),
        compared(study, "C2.9"),
        compared(study, "C2.10"),
        no_evident_pattern(study),
    ]


def compared(study: Study, claim: str) -> Finding:
    """Judge a claim that must hold in all comparisons made for it."""
    return evidence_of(study, _found(study, claim)).finding(claim, _COMPARED[claim])


def _found(study: Study, claim: str) -> list[Found]:
    """The comparisons that were made for a claim."""
    return found_for(study, claim, todm_families(study.runs), lambda family: todm_pairs(family.runs))


def teaching_harms_late(study: Study) -> Finding:
    """Judge C2.6: at full weight to the end, teaching makes min worse than no teacher; F repairs that."""
    finding = compared(study, "C2.6")
    models = {run.role: run.model for run in study.runs}
    # The first model of each comparison is the one that is better if the claim holds.
    shown = {models[found.asked.a[0]] for found in _found(study, "C2.6")}
    missing = missing_halves(shown)
    # One half is enough to refute the claim, but not to confirm it.
    is_half = bool(missing) and finding.verdict is Verdict.HELD
    verdict = Verdict.NOT_RESOLVED if is_half else finding.verdict
    evidence = (*finding.evidence, *missing, *min_at_two_thirds(study))
    return Finding(finding.claim, finding.text, verdict, evidence)


def constant_cost(study: Study) -> Finding:
    """Judge C2.8: one training and one search, however many sizes are deployed."""
    text = (
        "The cost of training does not depend on the number of deployed sizes: one supernet and its search take less "
        f"time than {PAPER_SIZES} separate models, as many as the paper has (minutes, same hardware and epochs). "
        + TIMES_RULE
    )
    evidence = Evidence()
    for family in todm_families(study.runs):
        main = main_todm(family.runs)
        if main is None or main.train_minutes is None:
            continue
        alone = [run for run in family.runs if run.model == "A1" and run.seed == main.seed]
        minutes = [run.train_minutes for run in alone if run.train_minutes is not None]
        # Only if all times are known: the mean of some sizes would not be that of all.
        if not minutes or len(minutes) < len(alone):
            continue
        search = 0.0 if main.search is None else main.search.minutes
        total = main.train_minutes + search
        mean = sum(minutes) / len(minutes)
        verdict, doubts = judge_times(main, alone, ((total, PAPER_SIZES * mean),))
        evidence.add(
            f"{prefix_of(family)}{main.role}: training {main.train_minutes:.1f} min, search {search:.1f} min, together "
            f"{total:.1f} min; {PAPER_SIZES} separate models {PAPER_SIZES * mean:.1f} min, {mean:.1f} min each on "
            f"average over {len(minutes)} sizes{doubts}",
            verdict,
        )
    return evidence.finding("C2.8", text)
