"""Verdicts of paper 5 on figures whose verdict is evident."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from slimasr.claims.asked import UNFAIR, Asked
from slimasr.claims.pathways import judge
from slimasr.claims.pathways.models import pathway_families
from slimasr.claims.pathways.pairs import family_pairs
from slimasr.claims.pathways.systems import find, joint_languages, mean_wer, systems_in
from slimasr.report.comparison.rates import Comparison
from slimasr.report.findings import Finding, Verdict
from slimasr.report.records import Run, Study
from slimasr.results.masks import Overlap
from slimasr.results.report import MaskComparison, MaskName
from tests.claims.pathway_kit import (
    LANGUAGES,
    TWO,
    dense,
    each,
    everything,
    joint,
    lap,
    levels,
    masks,
    record,
    run,
    source,
)

HELD, NOT_HELD, OPEN, UNTESTED = Verdict.HELD, Verdict.NOT_HELD, Verdict.NOT_RESOLVED, Verdict.NOT_TESTED
Rule = Callable[[Asked], tuple[float, float] | None]
FOUR = "+".join(LANGUAGES)


def asked_in(runs: Sequence[Run], claim: str) -> list[Asked]:
    found = [pair for family in pathway_families(runs) for pair in family_pairs(family)]
    return [pair for pair in found if pair.claim == claim]


def findings(runs: Sequence[Run], interval: Rule) -> dict[str, Finding]:
    """Findings where each comparison that is asked for comes out as ``interval`` says, in points of 10 %."""
    comparisons = []
    for number in range(1, 10):
        for pair in asked_in(runs, f"C5.{number}"):
            ends = interval(pair)
            if ends is not None:
                systems = (pair.a, pair.b)
                comparisons.append(Comparison(*systems, ("test-fr",), (1,), 100, 10.0, 10.0, sum(ends) / 2, *ends))
    return {finding.claim: finding for finding in judge(Study("made up", tuple(runs), tuple(comparisons)))}


def verdicts(runs: Sequence[Run], interval: Rule) -> dict[str, Verdict]:
    return {claim: finding.verdict for claim, finding in findings(runs, interval).items()}


def always(low: float, high: float) -> Rule:
    return lambda pair: (low, high)


BETTER, WORSE, OPEN_ENDED = always(-2.0, -1.0), always(1.0, 2.0), always(-1.0, 1.0)
ALIKE = always(-0.1, 0.29)
"""At most 2.9 % of 10 %, which is within the margin."""


def sides(runs: Sequence[Run], claim: str, *, counts: bool = True) -> list[tuple[str, str, str]]:
    """What a claim compares, over which languages."""
    return [(pair.a[0], pair.b[0], pair.a[1]) for pair in asked_in(runs, claim) if pair.counts == counts]


def test_one_model_is_compared_with_nothing() -> None:
    found = verdicts([joint("Dynamic LTH-50")], BETTER)
    assert list(found) == [f"C5.{number}" for number in range(1, 10)] and set(found.values()) == {UNTESTED}


def test_models_for_one_language_are_one_system() -> None:
    runs = [*each("LTH-70"), *each("LTH-70", 1, ["fr"], seed=2), joint("ASR Pathways LTH-70", TWO), dense()]
    systems = systems_in(runs)
    assert [(system.name, system.languages) for system in systems] == [
        ("LTH-70", LANGUAGES),
        ("ASR Pathways LTH-70, fr+nl", TWO),
        (f"dense, {FOUR}", LANGUAGES),
    ]
    assert joint_languages(systems) == [TWO]
    part = find(systems, "LTH-70", TWO)
    assert (
        part is not None
        and part.languages == TWO
        and [run.role for run in part.trained] == ["LTH-70, fr", "LTH-70, nl"]
    )
    # A model for several languages is compared as a whole.
    assert find(systems, "ASR Pathways LTH-70", ["fr"]) is None and find(systems, "dense", TWO) is None
    assert systems[1].part("nl") == ("ASR Pathways LTH-70, fr+nl", "nl") and systems[2].part("nl")[1] == "w1"


def test_ablations_are_systems_of_their_own() -> None:
    systems = systems_in(
        [joint("Dynamic LTH-50", TWO), replace(joint("x"), model="Dynamic LTH-50, fr+nl, no residual")]
    )
    assert [system.name for system in systems] == ["Dynamic LTH-50, fr+nl", "Dynamic LTH-50, fr+nl, no residual"]
    found = find(systems, "Dynamic LTH-50", TWO)
    assert found is not None and not found.model.rest


def test_means_are_unweighted_and_over_seeds() -> None:
    subnets = [record("fr", {"fr": [4, 0, 0]}), record("nl", {"nl": [0, 0, 0]})]
    first = run("Dynamic LTH-50, fr+nl", subnets, masks=masks(TWO))
    second = replace(first, seed=2, subnets=(record("fr", {"fr": [4, 4, 0]}), subnets[1]))
    study = Study("made up", (first, second), ())
    (system,) = systems_in(study.runs)
    # 100/3 and 200/3 % in French, none in Dutch.
    assert mean_wer(study, system, TWO) == pytest.approx((50 + 0) / 2)


def test_adaptive_masks_are_compared_in_every_language() -> None:
    runs = everything()
    wanted = [
        (f"{kind}-70 adaptive", f"{kind}-70", languages) for kind in ("IMP", "LTH") for languages in (FOUR, *LANGUAGES)
    ]
    assert sides(runs, "C5.1") == wanted and sides(runs, "C5.1", counts=False) == []
    for rule, expected in ((BETTER, HELD), (WORSE, NOT_HELD), (OPEN_ENDED, OPEN)):
        assert verdicts(runs, rule)["C5.1"] is expected
    in_dutch = verdicts(runs, lambda pair: (1.0, 2.0) if pair.a == ("IMP-70 adaptive", "nl") else (-2.0, -1.0))
    assert in_dutch["C5.1"] is NOT_HELD
    # Without a model of one language, the others are compared.
    fewer = [each_run for each_run in runs if each_run.role != "LTH-70 adaptive, it"]
    assert ("LTH-70 adaptive", "LTH-70", "en+fr+nl") in sides(fewer, "C5.1")


def test_asr_pathways_lies_between_fixed_and_adaptive_masks_of_one_kind() -> None:
    runs = everything()
    wanted = []
    for kind in ("IMP", "LTH"):
        pathways = f"ASR Pathways {kind}-70, {FOUR}"
        wanted += [(f"{kind}-70 adaptive", pathways, FOUR), (pathways, f"{kind}-70", FOUR)]
    assert sides(runs, "C5.2") == wanted
    # Language by language it is shown alone: in the paper it does not hold in Dutch.
    assert len(sides(runs, "C5.2", counts=False)) == 4 * len(LANGUAGES)
    in_dutch = verdicts(runs, lambda pair: (1.0, 2.0) if pair.a[1] == "nl" else (-2.0, -1.0))
    assert in_dutch["C5.2"] is HELD and in_dutch["C5.1"] is NOT_HELD


def test_starts_of_dynamic_pathways() -> None:
    runs = everything()
    two = "fr+nl"
    wanted = []
    for kind in ("LTH", "LAP"):
        wanted += [(f"Dynamic {kind}-50, {two}", f"Dynamic {kind}-{other}, {two}", two) for other in (70, 20)]
    wanted.append((f"Dynamic LTH-50, {two}", f"ASR Pathways LTH-70, {two}", two))
    # That of all four languages belongs to C5.6.
    assert sides(runs, "C5.3") == wanted
    for rule, expected in ((BETTER, HELD), (WORSE, NOT_HELD), (OPEN_ENDED, OPEN)):
        assert verdicts(runs, rule)["C5.3"] is expected


def test_adaptation_alone_is_judged_from_the_mask_of_all_languages() -> None:
    runs = everything()
    two = "fr+nl"
    assert sides(runs, "C5.4") == [(f"Dynamic LAP-70, {two}", f"ASR Pathways LAP-70, {two}", two)]
    assert (f"Dynamic LTH-70, {two}", f"ASR Pathways LTH-70, {two}", two) in sides(runs, "C5.4", counts=False)
    from_lth = verdicts(runs, lambda pair: (1.0, 2.0) if "LTH" in pair.a[0] else (-2.0, -1.0))
    assert from_lth["C5.4"] is HELD


def test_reaching_another_model_has_a_relative_margin() -> None:
    runs = everything()
    two = "fr+nl"
    reached = [(f"Dynamic LAP-{level}, {two}", f"ASR Pathways LTH-70, {two}", two) for level in (70, 50, 20)]
    assert sides(runs, "C5.5") == reached
    assert verdicts(runs, ALIKE)["C5.5"] is HELD
    # 3.1 % of 10 %.
    assert verdicts(runs, always(-0.1, 0.31))["C5.5"] is OPEN
    assert verdicts(runs, always(0.1, 0.31))["C5.5"] is NOT_HELD


def test_all_languages_and_all_but_the_richest() -> None:
    runs = everything()
    ours, baseline = f"Dynamic LTH-50, {FOUR}", f"ASR Pathways LTH-70, {FOUR}"
    assert sides(runs, "C5.6") == [(ours, baseline, FOUR), (ours, baseline, "fr+it+nl")]
    without_english = verdicts(runs, lambda pair: (-2.0, 1.0) if pair.a[1] == FOUR else (-2.0, -1.0))
    assert without_english["C5.6"] is OPEN
    assert sides([joint("Dynamic LTH-50", TWO), joint("ASR Pathways LTH-70", TWO)], "C5.6") == []


def test_one_mask_for_all_languages_harms_the_poorest() -> None:
    runs = everything()
    dense_model = f"dense, {FOUR}"
    wanted = [(dense_model, f"LAP-70, {FOUR}", "it")]
    wanted += [(f"{kind}-70", dense_model, FOUR) for kind in ("IMP", "LTH")]
    assert sides(runs, "C5.8") == wanted
    assert ("LTH-70", "unpruned", FOUR) in sides(runs, "C5.8", counts=False)
    # The dense model is better in Italian, and the sparse ones are about as good.
    found = verdicts(runs, lambda pair: (-2.0, -1.0) if pair.a[0] == dense_model else (-0.1, 0.29))
    assert found["C5.8"] is HELD
    assert verdicts(runs, ALIKE)["C5.8"] is OPEN and verdicts(runs, WORSE)["C5.8"] is NOT_HELD


def test_unequal_trainings_are_not_resolved() -> None:
    for changes in ({"epochs": 80}, {"average_start": 0.5}):
        runs = [*each("LTH-70", average_start=0.8), *each("LTH-70 adaptive", **{"average_start": 0.8, **changes})]
        found = findings(runs, BETTER)["C5.1"]
        assert found.verdict is OPEN and all(UNFAIR in line for line in found.evidence)


def test_evidence_has_points_percent_and_means() -> None:
    lines = findings([*each("LTH-70", 2), *each("LTH-70 adaptive", 1)], BETTER)["C5.1"].evidence
    assert lines[0] == (
        "all languages: LTH-70 adaptive better than LTH-70: 10.00 against 10.00 %, difference -1.50 [-2.00, -1.00] "
        "points, -15.0 % [-20.0, -10.0]; means over languages 25.00 and 50.00 % (-50.0 %): held"
    )
    assert lines[1].startswith("en: LTH-70 adaptive better than LTH-70") and "means" not in lines[1]


@pytest.mark.parametrize(("union", "expected"), [(0.34, HELD), (0.36, HELD), (0.37, OPEN), (0.38, NOT_HELD)])
def test_unions_of_the_same_languages_are_compared(union: float, expected: Verdict) -> None:
    runs = [joint("ASR Pathways LTH-70", TWO), joint("Dynamic LTH-50", TWO, masks=masks(TWO, union))]
    # The larger union of four languages and the smaller one of LAP's mask say nothing.
    runs += [joint("Dynamic LTH-50", masks=masks(LANGUAGES, 0.9)), joint("Dynamic LAP-50", TWO, masks=masks(TWO, 0.9))]
    found = {finding.claim: finding for finding in judge(Study("made up", tuple(runs), ()))}["C5.7"]
    assert found.verdict is expected
    assert found.evidence[0].startswith(f"Dynamic LTH-50, fr+nl {union:.3f} of the prunable weights")


def compared(entries: float, kept: float, language: str) -> MaskComparison:
    names = [MaskName(experiment=f"{base}, {language}", pathway=language) for base in ("LTH-70 adaptive", "LTH-70")]
    return MaskComparison(a=names[0], b=names[1], entries=entries, kept=kept)


@pytest.mark.parametrize(
    ("entries", "kept", "expected"),
    [(0.8, 0.67, HELD), (0.88, 0.8, HELD), (0.7, 0.5, NOT_HELD), (0.95, 0.92, NOT_HELD)],
)
def test_overlaps_are_judged_in_both_readings(entries: float, kept: float, expected: Verdict) -> None:
    start = dict.fromkeys(TWO, Overlap(entries=0.6, kept=0.3))
    sources = {name: source(f"lth_{name}", 240) for name in TWO}
    dynamic = joint("Dynamic LTH-70", TWO, masks=masks(TWO, since_start=start, sources=sources))
    pruned = joint("Dynamic LTH-50", TWO, masks=masks(TWO, since_start=start, sources=sources, levels=levels(80)))
    runs = (*each("LTH-70"), *each("LTH-70 adaptive"), dynamic, pruned)
    # Their means are the given ones.
    overlaps = tuple(compared(entries + d, kept - d, language) for d, language in ((0.1, "fr"), (-0.1, "it")))
    study = Study("made up", runs, (), mask_overlaps=overlaps)
    found = {finding.claim: finding for finding in judge(study)}["C5.9"]
    assert found.verdict is expected
    means = [line for line in found.evidence if line.startswith("mean")]
    assert [float(line.split()[1]) for line in means] == pytest.approx([100 * entries, 100 * kept])
    shown = [line for line in found.evidence if line.endswith("(not part of the verdict)")]
    assert [line.partition(": ")[0] for line in shown] == [
        f"{name}, Dynamic LTH-70, fr+nl and lth_{name}" for name in TWO
    ]
    assert all("60.0 % of all entries are equal" in line for line in shown)


def test_a_mask_for_all_languages_serves_each() -> None:
    (system,) = systems_in([lap()])
    assert system.is_joint and {system.part(language) for language in LANGUAGES} == {(f"LAP-70, {FOUR}", "all")}
