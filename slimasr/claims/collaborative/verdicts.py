"""Judge the claims of paper 3 by comparisons of branches and separate models, depth by depth."""

from __future__ import annotations

from collections.abc import Sequence

from slimasr.claims.asked import Found, evidence_of, found_for, is_fair, line_of, prefix_of
from slimasr.claims.collaborative.models import FULL, UNSHARED, collaborative_families, collaborative_run
from slimasr.claims.collaborative.pairs import THREE, branches, family_pairs, weighted
from slimasr.claims.times import TIMES_RULE, judge_times
from slimasr.claims.verdicts import Evidence, better, one_of
from slimasr.report.comparison.rates import Comparison
from slimasr.report.findings import Finding, Verdict
from slimasr.report.records import Study

READING = (
    '"Better" and "worse" are held when the interval lies on that side of 0 altogether, not held when it lies on the '
    "other. Branches are compared with models of the same depth, over dev and test sets together."
)

_TEXTS = {
    "C3.1": "All factors on, 4 branches: every depth beats its separate baseline (in the paper by 3 to 11 % on "
    "test-clean and, except 10 layers, on test-other).",
    "C3.2": "The largest branch improves too, with 4 branches and with 2 (in the paper 3.76 -> 3.45; 2 branches: over "
    "7 % and 5 %).",
    "C3.3": "PJ is worse than separate, LF better than PJ, CE better than LF, KL over CE equal (in the paper it helps "
    "clearly only unshared).",
    "C3.4": "With a very small branch, sharing low layers hurts it; no sharing fixes it and gives the best largest "
    "branch, at more training time (in the paper sharing hurts 7 layers on test-clean alone, 4.88 against 4.65; "
    f"test-other 12.21 against 12.50). {TIMES_RULE}",
    "C3.5": "CE alone at 0.6 helps separate models inconsistently: better at one depth and worse at another (in the "
    "paper it helped on test-clean at three of five depths and hurt on test-other at all five).",
    "C3.6": "Of two branches, the smaller one is no worse than the largest separate model (in the paper 14 layers "
    "against 20).",
    "C3.7": "No lambda is best at all depths, in 0.05 to 0.3 with 3 branches.",
}


def judge(study: Study) -> list[Finding]:
    """Judge all seven claims, in order."""
    return [
        compared(study, "C3.1"),
        compared(study, "C3.2"),
        compared(study, "C3.3"),
        very_small_branch(study),
        inconsistent(study),
        compared(study, "C3.6"),
        no_best_weight(study),
    ]


def compared(study: Study, claim: str) -> Finding:
    """Judge a claim that must hold in all comparisons made for it."""
    return _evidence(study, claim).finding(claim, _TEXTS[claim])


def very_small_branch(study: Study) -> Finding:
    """Judge C3.4: WERs of three branches with and without shared layers, and the minutes of training."""
    evidence = _evidence(study, "C3.4")
    for family in collaborative_families(study.runs):
        shared = collaborative_run(family.runs, THREE, FULL)
        unshared = collaborative_run(family.runs, THREE, UNSHARED)
        if shared is None or unshared is None or not shared.train_minutes or not unshared.train_minutes:
            continue
        minutes = (shared.train_minutes, unshared.train_minutes)
        verdict, doubts = judge_times(shared, [unshared], [minutes])
        more = 100.0 * (minutes[1] / minutes[0] - 1.0)
        evidence.add(
            f"{prefix_of(family)}training: shared {minutes[0]:.1f} min, unshared {minutes[1]:.1f} min ({more:+.0f} %)"
            f"{doubts}",
            verdict,
        )
    return evidence.finding("C3.4", _TEXTS["C3.4"])


def inconsistent(study: Study) -> Finding:
    """Judge C3.5: held if CE is better at one depth and worse at another, not held if all differ to one side.

    As one of many comparisons differs by chance, all intervals are those of 100 - 5/n %.
    """
    found = _found(study, "C3.5")
    lines = [line_of(study, item) for item in found]
    if not found:
        return Finding("C3.5", _TEXTS["C3.5"], Verdict.NOT_TESTED)
    signs = {_sign(one_of(item.comparison, len(found))) for item in found}
    verdict = Verdict.NOT_RESOLVED
    if all(is_fair(study, item.asked) for item in found):
        if {-1, 1} <= signs:
            verdict = Verdict.HELD
        elif len(found) > 1 and signs in ({-1}, {1}):
            verdict = Verdict.NOT_HELD
    return Finding("C3.5", _TEXTS["C3.5"], verdict, tuple(lines))


def no_best_weight(study: Study) -> Finding:
    """Judge C3.7: held if every lambda is beaten at some depth, not held if one beats all others at all depths.

    As one of many comparisons differs by chance, all intervals are those of 100 - 5/n %.
    """
    evidence = Evidence()
    for family in collaborative_families(study.runs):
        found = [item for item in _found(study, "C3.7") if item.family.name == family.name]
        roles = {weight: run.role for weight, run in weighted(family).items()}
        if len(roles) < 2 or not found:
            continue
        if not all(is_fair(study, item.asked) for item in found):
            verdict = Verdict.NOT_RESOLVED
        else:
            wide = [one_of(item.comparison, len(found)) for item in found]
            verdict = _best_weight(list(roles.values()), wide)
        depths = len(branches(next(iter(weighted(family).values()))))
        lines = "; ".join(line_of(study, item) for item in found)
        evidence.add(f"lambda {', '.join(f'{weight:g}' for weight in roles)} at {depths} depths: {lines}", verdict)
    return evidence.finding("C3.7", _TEXTS["C3.7"])


def _best_weight(roles: Sequence[str], comparisons: Sequence[Comparison]) -> Verdict:
    # Loser and winner of each difference that is resolved.
    beaten = {c.b[0] if _sign(c) < 0 else c.a[0] for c in comparisons if _sign(c)}
    if beaten == set(roles):
        return Verdict.HELD
    for role in roles:
        own = [c for c in comparisons if role in (c.a[0], c.b[0])]
        # The sign as seen from this lambda.
        if all(_sign(c) == (-1 if c.a[0] == role else 1) for c in own):
            return Verdict.NOT_HELD
    return Verdict.NOT_RESOLVED


def _sign(comparison: Comparison) -> int:
    """-1 if the first system is better, 1 if it is worse, 0 if the interval does not say."""
    verdict = better(comparison.low, comparison.high)
    return {Verdict.HELD: -1, Verdict.NOT_HELD: 1}.get(verdict, 0)


def _evidence(study: Study, claim: str) -> Evidence:
    """Judge all comparisons made for a claim, by their own rules."""
    return evidence_of(study, _found(study, claim))


def _found(study: Study, claim: str) -> list[Found]:
    """The comparisons that were made for a claim."""
    return found_for(study, claim, collaborative_families(study.runs), family_pairs)
