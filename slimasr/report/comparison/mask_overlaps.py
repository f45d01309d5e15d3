"""Compare adaptive masks with fixed masks of other experiments, from the files in their folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slimasr.experiment.masks import final_masks
from slimasr.results.report import MaskComparison, MaskName, ReportedRun

NEAR = 0.005
"""Sparsities that differ by less are equal."""


@dataclass(frozen=True)
class _Masks:
    """The final masks of one experiment.

    Attributes:
        block: outputs and inputs of a block.
        kept: pathway -> matrix -> bool, which blocks are kept.
        adapted: whether they adapted between prunings.
        given: whether the training began with masks of another experiment.
        sparsity: of every pathway.
    """

    block: tuple[int, int]
    kept: Mapping[str, Mapping[str, np.ndarray]]
    adapted: bool
    given: bool
    sparsity: Mapping[str, float]


def compare_masks(runs: Mapping[str, ReportedRun], folders: Mapping[str, Path]) -> tuple[MaskComparison, ...]:
    """Compare every adapted mask with the masks of its language and sparsity that another run has found and kept.

    Args:
        runs: the experiments by name.
        folders: the folders of those that are at hand. Experiments without a file of masks are left out.

    Raises:
        UserError: a file of masks cannot be read or is damaged.
    """
    found = {name: _read(folder, runs[name]) for name, folder in folders.items()}
    return tuple(_comparisons({name: masks for name, masks in found.items() if masks is not None}))


def _read(folder: Path, run: ReportedRun) -> _Masks | None:
    saved = final_masks(folder)
    if saved is None or run.masks is None:
        return None
    kept = {
        name: {matrix: np.asarray(mask[number], dtype=bool) for matrix, mask in saved.masks.items()}
        for number, name in enumerate(saved.languages)
    }
    return _Masks(saved.block, kept, saved.adaptive, bool(run.masks.sources), run.masks.sparsity)


def _comparisons(found: Mapping[str, _Masks]) -> Iterator[MaskComparison]:
    """Yield the comparisons in the order of the experiments."""
    for first, ours in found.items():
        for second, theirs in found.items():
            # What both began with is compared in the record of the training already.
            if not ours.adapted or theirs.adapted or theirs.given or ours.block != theirs.block:
                continue
            for name in (name for name in ours.kept if name in theirs.kept):
                overlap = _overlap(ours.kept[name], theirs.kept[name])
                if overlap is not None and _is_comparable(ours.sparsity[name], theirs.sparsity[name]):
                    a, b = (MaskName(experiment=each, pathway=name) for each in (first, second))
                    yield MaskComparison(a=a, b=b, entries=overlap[0], kept=overlap[1])


def _is_comparable(first: float, second: float) -> bool:
    """Whether two masks leave out something, and as much; short blocks make shares of weights differ a little."""
    return first > 0.0 and abs(first - second) < NEAR


def _overlap(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> tuple[float, float] | None:
    """Shares of equal entries and of common kept blocks over all matrices; None for masks of different models."""
    if {name: mask.shape for name, mask in first.items()} != {name: mask.shape for name, mask in second.items()}:
        return None
    equal = sum(int((mask == second[name]).sum()) for name, mask in first.items())
    common = sum(int((mask & second[name]).sum()) for name, mask in first.items())
    total = sum(mask.size for mask in first.values())
    kept = 0.5 * sum(int(mask.sum()) for each in (first, second) for mask in each.values())
    return (round(equal / total, 6), round(common / kept, 6)) if kept else None
