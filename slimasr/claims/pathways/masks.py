"""Judge what masks of paper 5 have in common: those of several languages (C5.7), adaptive and fixed ones (C5.9)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from slimasr.claims.asked import prefix_of
from slimasr.claims.pathways.models import DYNAMIC, IMP, LTH, adaptive, asr_pathways, dynamic, fixed, pathway_families
from slimasr.claims.pathways.pairs import MARGIN
from slimasr.claims.pathways.systems import System, find, joint_languages, languages_of, systems_in
from slimasr.claims.verdicts import Evidence
from slimasr.report.findings import Finding, Verdict
from slimasr.report.records import Study
from slimasr.results.masks import Overlap

ABOUT = (0.75, 0.85)
"""Shares that count as about 80 %."""


def unions(study: Study) -> Finding:
    """Judge C5.7 for every set of languages by the unions of the masks of both methods, each the mean of its seeds."""
    text = (
        "The masks of Dynamic ASR Pathways from LTH's at 50 % together keep no more than those of ASR Pathways with "
        "LTH's at 70 % (in the paper 0.34 and 0.36 of all weights, which are 0.324 and 0.345 of the prunable ones). "
        "Held where the union of the prunable weights is no larger, not held where it is larger by more than "
        f"{MARGIN:g} %. Other starts are shown too."
    )
    evidence = Evidence()
    for family in pathway_families(study.runs):
        systems = systems_in(family.runs)
        for languages in joint_languages(systems):
            for percent in (50, 70, 20):
                ours = find(systems, dynamic(LTH, percent), languages)
                theirs = find(systems, asr_pathways(LTH), languages)
                line, verdict = _smaller_union(study, ours, theirs)
                if verdict is not None and percent == 50:
                    evidence.add(f"{prefix_of(family)}{line}", verdict)
                elif verdict is not None:
                    evidence.note(f"{prefix_of(family)}{line}")
    return evidence.finding("C5.7", text)


def _smaller_union(study: Study, ours: System | None, theirs: System | None) -> tuple[str, Verdict | None]:
    """Compare the unions of two systems; without both there is no verdict."""
    if ours is None or theirs is None:
        return "", None
    first, second = union_of(study, ours), union_of(study, theirs)
    if first is None or second is None:
        return "", None
    line = (
        f"{ours.name} {first[0]:.3f} of the prunable weights ({first[1]:.3f} of all), {theirs.name} {second[0]:.3f} "
        f"({second[1]:.3f})"
    )
    if first[0] <= second[0]:
        return line, Verdict.HELD
    return line, Verdict.NOT_HELD if first[0] > (1 + MARGIN / 100) * second[0] else Verdict.NOT_RESOLVED


def union_of(study: Study, system: System) -> tuple[float, float] | None:
    """Return the union of the masks of a joint model, of the prunable and of all weights, as means over the seeds."""
    if not system.is_joint:
        return None
    entries = [run.masks for run in study.with_role(system.trained[0].role) if run.masks is not None]
    if not entries:
        return None
    number = len(entries)
    return sum(entry.union for entry in entries) / number, sum(entry.union_all for entry in entries) / number


def masks_overlap(study: Study) -> Finding:
    """Judge C5.9 in both readings: over all entries, and over what masks keep."""
    low, high = (100 * end for end in ABOUT)
    text = (
        "Adaptive and fixed masks of one language overlap by about 80 %. Held where this is so on average in one of "
        f"two readings, about being {low:g} to {high:g} %: 80 % of all entries of the masks are equal (at 70 % "
        "sparsity, 67 % of the kept weights are common then; unrelated masks have 58 % equal entries), or 80 % of the "
        "kept weights are common (unrelated masks: 30 %)."
    )
    found = list(_overlaps(study))
    lines = [f"{name}: {_in_words(overlap)}" for name, overlap, counts in found if counts]
    shown = [f"{name}: {_in_words(overlap)} (not part of the verdict)" for name, overlap, counts in found if not counts]
    counted = [overlap for _, overlap, counts in found if counts]
    if not counted:
        return Finding("C5.9", text, Verdict.NOT_TESTED, tuple(shown))
    entries = sum(overlap.entries for overlap in counted) / len(counted)
    kept = sum(overlap.kept for overlap in counted) / len(counted)
    verdicts = [Verdict.HELD if ABOUT[0] <= mean <= ABOUT[1] else Verdict.NOT_HELD for mean in (entries, kept)]
    means = (
        f"mean: {100 * entries:.1f} % of all entries are equal: {verdicts[0].value}",
        f"mean: {100 * kept:.1f} % of the kept weights are common: {verdicts[1].value}",
    )
    verdict = Verdict.HELD if Verdict.HELD in verdicts else Verdict.NOT_HELD
    return Finding("C5.9", text, verdict, (*lines, *means, *shown))


def _in_words(overlap: Overlap) -> str:
    return f"{100 * overlap.entries:.1f} % of all entries are equal, {100 * overlap.kept:.1f} % of the kept are common"


def _overlaps(study: Study) -> Iterator[tuple[str, Overlap, bool]]:
    """Yield what is compared, how far it overlaps, and whether it counts.

    Masks of one language count; those of Dynamic ASR Pathways, which began with the fixed masks, are shown.
    """
    for family in pathway_families(study.runs):
        systems = systems_in(family.runs)
        prefix = prefix_of(family)
        for masks in (IMP, LTH):
            yield from _of_one_language(study, systems, masks, prefix)
        for system in systems:
            if system.model.base.startswith(DYNAMIC) and not system.model.rest:
                yield from _since_start(study, system, prefix)


def _of_one_language(
    study: Study, systems: Sequence[System], masks: str, prefix: str
) -> Iterator[tuple[str, Overlap, bool]]:
    for language in languages_of(systems):
        ours, theirs = (find(systems, base, [language]) for base in (adaptive(masks), fixed(masks)))
        if ours is None or theirs is None:
            continue
        overlap = _overlap(study, ours.runs[language].name, theirs.runs[language].name, language)
        if overlap is not None:
            yield f"{prefix}{language}, {ours.name} and {theirs.name}", overlap, True


def _overlap(study: Study, adapted: str, stayed: str, language: str) -> Overlap | None:
    for item in study.mask_overlaps:
        if (item.a.experiment, item.b.experiment, item.a.pathway) == (adapted, stayed, language):
            return item
    return None


def _since_start(study: Study, system: System, prefix: str) -> Iterator[tuple[str, Overlap, bool]]:
    """What Dynamic ASR Pathways has in common with the fixed masks of the runs that found its first masks."""
    run = system.trained[0]
    for language, source in ({} if run.masks is None else run.masks.sources).items():
        overlap = _overlap(study, run.name, source.experiment, language)
        # A mask that was pruned further since the start is not to be compared with a mask of the start.
        if overlap is None and run.masks is not None and not run.masks.levels:
            overlap = run.masks.since_start.get(language)
        if overlap is not None:
            yield f"{prefix}{language}, {system.name} and {source.experiment}", overlap, False
