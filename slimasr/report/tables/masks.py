"""Tables of the masks of pathways: how much of a model they keep together, and what they have in common."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from slimasr.report.records import Run, Study
from slimasr.report.tables.table import ABSENT, Table
from slimasr.results.masks import Adaptations, MasksEntry, Overlap

_READINGS = ("equal entries %", "kept in common %")


def mask_tables(study: Study) -> list[Table]:
    """Make the tables of masks; they have no rows without pathways."""
    masked = [(run, run.masks) for run in study.runs if run.masks is not None]
    return [
        _sizes([_size_row(run, masks) for run, masks in masked]),
        _overlaps([row for run, masks in masked for row in _overlap_rows(run, masks)] + list(_compared_rows(study))),
        _adaptations([row for run, masks in masked for row in _adaptation_rows(run, masks)]),
    ]


def _sizes(rows: list[tuple[str, ...]]) -> Table:
    columns = ("experiment", "pathways", "sparsity %", "union, prunable", "union, all", "pruned at steps")
    note = (
        "Final masks. Union: share of the weights that at least one pathway keeps, of the prunable ones and of all; "
        "what is not prunable is kept."
    )
    return Table("Masks of pathways", columns, tuple(rows), note)


def _size_row(run: Run, masks: MasksEntry) -> tuple[str, ...]:
    sparsity = "/".join(dict.fromkeys(f"{100 * share:.0f}" for share in masks.sparsity.values()))
    levels = ", ".join(f"{level.step:,} ({100 * level.sparsity:.0f} %)" for level in masks.levels)
    return (
        run.name,
        "+".join(masks.sparsity),
        sparsity,
        f"{masks.union:.3f}",
        f"{masks.union_all:.3f}",
        levels or ABSENT,
    )


def _overlaps(rows: list[tuple[str, ...]]) -> Table:
    note = (
        "Two readings of how alike two masks are: the share of all entries that are equal, and what both keep over the "
        "mean of what each keeps. Unrelated masks of sparsity s have s^2 + (1 - s)^2 equal entries, and 1 - s of what "
        "they keep in common."
    )
    return Table("Overlap of masks", ("first mask", "second mask", *_READINGS), tuple(rows), note)


def _overlap_rows(run: Run, masks: MasksEntry) -> Iterator[tuple[str, ...]]:
    """Every two pathways of a run, and each of them with the mask with which it began."""
    for pair in masks.overlaps:
        yield f"{run.name}: {pair.a}", f"{run.name}: {pair.b}", *_readings(pair)
    for name, overlap in masks.since_start.items():
        source = masks.sources.get(name)
        origin = "its start" if source is None else f"its start, {source.experiment} at {100 * source.level:.0f} %"
        yield f"{run.name}: {name}", origin, *_readings(overlap)


def _compared_rows(study: Study) -> Iterator[tuple[str, ...]]:
    for item in study.mask_overlaps:
        first, second = (f"{side.experiment}: {side.pathway}" for side in (item.a, item.b))
        yield first, second, *_readings(item)


def _readings(overlap: Overlap) -> tuple[str, str]:
    return f"{100 * overlap.entries:.1f}", f"{100 * overlap.kept:.1f}"


def _adaptations(rows: list[tuple[str, ...]]) -> Table:
    columns = ("experiment", "pathway", "adaptations", "first %", "median %", "last %", "largest %")
    note = "Share of the kept blocks that other blocks replaced when a mask adapted between prunings."
    return Table("Adaptations of masks", columns, tuple(rows), note)


def _adaptation_rows(run: Run, masks: MasksEntry) -> Iterator[tuple[str, ...]]:
    for name, found in masks.adaptations.items():
        if found.changed:
            yield run.name, name, f"{len(found.changed):,}", *_shares(found)


def _shares(found: Adaptations) -> tuple[str, ...]:
    changed = found.changed
    shares = (changed[0], statistics.median(changed), changed[-1], max(changed))
    return tuple(f"{100 * share:.2f}" for share in shares)
