"""Runs of paper 5 with made-up figures, as a report reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from slimasr.report.comparison.rates import Rate
from slimasr.report.records import Run, SubnetRecord
from slimasr.results.masks import Adaptations, LevelEntry, MasksEntry, MaskSource, PairOverlap

LANGUAGES = ("en", "fr", "it", "nl")
TWO = ("fr", "nl")
DENSE_PARAMS, PRUNABLE, BLOCKS = 100_000, 80_000, 10_000
UTTERANCES = {f"test-{language}": {f"{language}-{n}": 4 for n in range(3)} for language in LANGUAGES}


def rate(errors: Sequence[int]) -> Rate:
    words = 4 * len(errors)
    wer = 100 * sum(errors) / words
    return Rate(wer, (wer - 1, wer + 1), sum(errors), words, tuple(errors), "greedy")


def record(pathway: str, errors: Mapping[str, Sequence[int]], **changes: Any) -> SubnetRecord:
    """A subnet with errors of the utterances of each language."""
    wer = {f"test-{language}": rate(found) for language, found in errors.items()}
    costs = {"params": 44_000.0, "int8_bytes": 60_000.0} if pathway else {"params": float(DENSE_PARAMS)}
    made = SubnetRecord(pathway or "w1", 1.0, costs, wer, None, pathway=pathway)
    return replace(made, **changes)


def masks(pathways: Sequence[str], union: float = 0.3, sparsity: float = 0.7, **changes: Any) -> MasksEntry:
    made = MasksEntry(
        prunable=PRUNABLE,
        blocks=BLOCKS,
        params=DENSE_PARAMS,
        union=union,
        union_all=(union * PRUNABLE + DENSE_PARAMS - PRUNABLE) / DENSE_PARAMS,
        sparsity=dict.fromkeys(pathways, sparsity),
    )
    return made.model_copy(update=changes)


def source(experiment: str, step: int, level: float = 0.7, **changes: Any) -> MaskSource:
    languages = (experiment.rpartition("_")[2],)
    made = MaskSource(
        experiment=experiment, level=level, languages=languages, rewind=True, adaptive=False, step=step, steps=1000
    )
    return made.model_copy(update=changes)


def pair_overlap(a: str, b: str, entries: float, kept: float) -> PairOverlap:
    return PairOverlap(a=a, b=b, entries=entries, kept=kept)


def levels(*steps: int) -> tuple[LevelEntry, ...]:
    return tuple(LevelEntry(sparsity=share, step=step) for share, step in zip((0.2, 0.5, 0.7), steps, strict=False))


def adaptations(*changed: float) -> Adaptations:
    return Adaptations(steps=tuple(100 * n for n in range(1, len(changed) + 1)), changed=changed)


def run(model: str, subnets: Sequence[SubnetRecord], **changes: Any) -> Run:
    made = Run(
        name=model,
        role=model,
        separate_of=None,
        seed=1,
        epochs=40,
        steps=1000,
        train_minutes=10.0,
        hardware="abacus",
        revision="",
        command="",
        subnets=tuple(subnets),
        slices=(),
        curve=(),
        model=model,
    )
    return replace(made, **changes)


def each(base: str, errors: int = 1, languages: Sequence[str] = LANGUAGES, **changes: Any) -> list[Run]:
    """A model for each language, named after what its masks are."""
    made = []
    for language in languages:
        subnet = record(language, {language: [errors] * 3})
        made.append(run(f"{base}, {language}", [subnet], masks=masks([language]), start="dense", **changes))
    return made


def joint(base: str, languages: Sequence[str] = LANGUAGES, errors: int = 1, **changes: Any) -> Run:
    """A model with a pathway for each language."""
    subnets = [record(language, {language: [errors] * 3}) for language in languages]
    changes = {"masks": masks(languages, 0.36), **changes}
    return run(f"{base}, {'+'.join(languages)}", subnets, start="dense", **changes)


def lap(**changes: Any) -> Run:
    subnet = record("all", {language: [1] * 3 for language in LANGUAGES})
    return run(f"LAP-70, {'+'.join(LANGUAGES)}", [subnet], **{"masks": masks(["all"]), "start": "dense", **changes})


def dense(base: str = "dense", languages: Sequence[str] = LANGUAGES, **changes: Any) -> Run:
    subnet = record("", {language: [1] * 3 for language in languages})
    return run(f"{base}, {'+'.join(languages)}", [subnet], separate_of="w1", **changes)


def everything() -> list[Run]:
    """All models that the claims are about."""
    found = [dense(), *each("unpruned"), lap()]
    for kind in ("LTH", "IMP"):
        found += each(f"{kind}-70") + each(f"{kind}-70 adaptive")
        found.append(joint(f"ASR Pathways {kind}-70"))
    found += [joint(f"ASR Pathways {kind}-70", TWO) for kind in ("LTH", "LAP")]
    found += [joint(f"Dynamic {kind}-{level}", TWO) for kind in ("LTH", "LAP") for level in (70, 50, 20)]
    return [*found, joint("Dynamic LTH-50")]
