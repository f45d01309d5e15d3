"""Pair the systems that the claims of paper 5 compare, over all languages together and language by language.

Only test sets count, as dev sets have served for choices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from slimasr.claims.asked import Asked
from slimasr.claims.pathways.models import (
    DENSE,
    IMP,
    LAP,
    LTH,
    MAIN,
    UNPRUNED,
    adaptive,
    asr_pathways,
    dynamic,
    fixed,
    pathway_families,
)
from slimasr.claims.pathways.systems import System, find, joint_languages, languages_of, parts_of, systems_in
from slimasr.claims.verdicts import Rule, better, not_worse
from slimasr.report.comparison.families import Family
from slimasr.report.records import Run

MARGIN = 3.0
"""Differences of WER up to this many percent of the second system's WER count as none."""

at_most: Rule = partial(not_worse, margin=MARGIN)
"""Judges "no worse than", given an interval in percent."""

POOR = "it"
"""The language of which the paper has least training data: 0.2 of its 48 thousand hours."""

RICH = "en"
"""The language of which it has most."""

ALL = "all languages"


def pairs(runs: Sequence[Run]) -> Iterator[Asked]:
    """Yield every comparison that a claim needs, family by family."""
    for family in pathway_families(runs):
        yield from family_pairs(family)


def family_pairs(family: Family) -> Iterator[Asked]:
    """Yield what the claims compare within one family. Models that it lacks have no comparisons."""
    systems = systems_in(family.runs)
    languages = languages_of(systems)
    yield from _adaptive_masks(systems, languages)
    yield from _one_model_for_each(systems, languages)
    for joint in joint_languages(systems):
        yield from _starts(systems, joint)
        # That of all of more than two languages is a claim of its own.
        if len(joint) < 3 or set(joint) != set(languages):
            yield from _main_against_fixed("C5.3", systems, joint)
        yield from _adaptation_alone(systems, joint)
        yield from _from_masks_of_all(systems, joint)
    yield from _all_languages(systems, languages)
    yield from _one_mask_for_all(systems, languages)


def _adaptive_masks(systems: Sequence[System], languages: Sequence[str]) -> Iterator[Asked]:
    """C5.1: adaptive against fixed masks of one language, in every language and together."""
    for masks in (IMP, LTH):
        first, second = _common(systems, adaptive(masks), fixed(masks), languages)
        yield from _compared("C5.1", first, second, "better than", better, by_language=True)


def _one_model_for_each(systems: Sequence[System], languages: Sequence[str]) -> Iterator[Asked]:
    """C5.2: adaptive masks of one language, ASR Pathways, and fixed masks of one language, within one kind of masks."""
    for masks in (IMP, LTH):
        joint = find(systems, asr_pathways(masks), languages)
        yield from _compared("C5.2", find(systems, adaptive(masks), languages), joint, "better than", better)
        yield from _compared("C5.2", joint, find(systems, fixed(masks), languages), "better than", better)


def _starts(systems: Sequence[System], languages: Sequence[str]) -> Iterator[Asked]:
    """C5.3: masks at 50 % at the start against other ones."""
    for masks in (LTH, LAP):
        main = find(systems, dynamic(masks, 50), languages)
        for percent in (70, 20):
            other = find(systems, dynamic(masks, percent), languages)
            yield from _compared("C5.3", main, other, "better than", better)


def _main_against_fixed(claim: str, systems: Sequence[System], languages: Sequence[str]) -> Iterator[Asked]:
    """The whole method against ASR Pathways."""
    ours, baseline = find(systems, MAIN, languages), find(systems, asr_pathways(LTH), languages)
    yield from _compared(claim, ours, baseline, "better than", better)


def _adaptation_alone(systems: Sequence[System], languages: Sequence[str]) -> Iterator[Asked]:
    """C5.4: adaptation at constant sparsity, from LAP's mask; from LTH's masks it gains little in the paper."""
    for masks in (LAP, LTH):
        ours, baseline = find(systems, dynamic(masks, 70), languages), find(systems, asr_pathways(masks), languages)
        yield from _compared("C5.4", ours, baseline, "better than", better, counts=masks == LAP)


def _from_masks_of_all(systems: Sequence[System], languages: Sequence[str]) -> Iterator[Asked]:
    """C5.5: masks of all languages at the start against fixed masks of each language."""
    baseline = find(systems, asr_pathways(LTH), languages)
    for percent in (70, 50, 20):
        ours = find(systems, dynamic(LAP, percent), languages)
        yield from _compared("C5.5", ours, baseline, "no worse than", at_most)


def _all_languages(systems: Sequence[System], languages: Sequence[str]) -> Iterator[Asked]:
    """C5.6: the whole method against ASR Pathways over all languages, and over all but the richest one."""
    # With two languages, there is no more than in the claims before.
    if len(languages) < 3:
        return
    yield from _main_against_fixed("C5.6", systems, languages)
    ours, baseline = find(systems, MAIN, languages), find(systems, asr_pathways(LTH), languages)
    if ours is not None and baseline is not None and RICH in languages:
        others = [language for language in languages if language != RICH]
        yield _asked("C5.6", ours, baseline, others, f"all but {RICH}", "better than", better, True)


def _one_mask_for_all(systems: Sequence[System], languages: Sequence[str]) -> Iterator[Asked]:
    """C5.8: LAP in the language with least data, and masks of one language against the dense model of all of them."""
    # A dense model for every language may be there too.
    joint = [system for system in systems if system.is_joint]
    dense, lap = find(joint, DENSE, languages), find(joint, fixed(LAP), languages)
    if dense is not None and lap is not None:
        for language in languages:
            what = "the language with least data" if language == POOR else ""
            name = f"{language}, {what}" if what else language
            yield _asked("C5.8", dense, lap, [language], name, "better than", better, language == POOR)
    for masks in (IMP, LTH):
        ours = find(systems, fixed(masks), languages)
        yield from _compared("C5.8", ours, dense, "no worse than", at_most)
        # What is lost against the same training without pruning is what pruning costs.
        yield from _compared("C5.8", ours, find(systems, UNPRUNED, languages), "no worse than", at_most, counts=False)


def _common(
    systems: Sequence[System], first: str, second: str, languages: Sequence[str]
) -> tuple[System | None, System | None]:
    """Two systems of models for one language, over the languages that both have."""
    found = [next((s for s in systems if s.model.base == base and not s.model.rest), None) for base in (first, second)]
    ours, theirs = found
    if ours is None or theirs is None:
        return None, None
    both = [language for language in languages if language in ours.runs and language in theirs.runs]
    return (find(systems, first, both), find(systems, second, both)) if both else (None, None)


def _compared(
    claim: str,
    first: System | None,
    second: System | None,
    says: str,
    rule: Rule,
    *,
    by_language: bool = False,
    counts: bool = True,
) -> Iterator[Asked]:
    """Compare two systems over all their languages together, and in each of them.

    Args:
        by_language: whether the claim must hold in every language.
        counts: whether the claim depends on the comparison.
    """
    if first is None or second is None:
        return
    languages = first.languages
    yield _asked(claim, first, second, languages, ALL, says, rule, counts)
    # One language alone is all of them.
    for language in languages if len(languages) > 1 else ():
        yield _asked(claim, first, second, [language], language, says, rule, counts and by_language)


def _asked(
    claim: str,
    first: System,
    second: System,
    languages: Sequence[str],
    where: str,
    says: str,
    rule: Rule,
    counts: bool,
) -> Asked:
    key = "+".join(languages)
    return Asked(
        a=(first.name, key),
        b=(second.name, key),
        parts=parts_of(first, second, languages),
        claim=claim,
        what=f"{where}: {first.name} {says} {second.name}",
        rule=rule,
        counts=counts,
    )
