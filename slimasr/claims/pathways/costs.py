"""What a system of paper 5 stores for all its languages, and what its training took with the search for its masks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from slimasr.claims.pathways.systems import System
from slimasr.report.records import Run, Study
from slimasr.results.masks import MasksEntry

FLOAT = 4
"""Bytes of a weight."""


@dataclass(frozen=True)
class Stored:
    """Bytes of a system, packed: kept values, one bit per block and pathway, and everything that is not prunable.

    Attributes:
        float_bytes: with 4 bytes per value.
        int8_bytes: with one byte per weight where the runtime has int8; None if they were not counted.
    """

    float_bytes: float
    int8_bytes: float | None


def stored(system: System) -> Stored | None:
    """Return what all runs of a system store together; None if the size of one is not known."""
    parts = [_stored(run) for run in system.trained]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    int8 = [part.int8_bytes for part in known if part.int8_bytes is not None]
    total = sum(int8) if len(int8) == len(known) else None
    return Stored(sum(part.float_bytes for part in known), total)


def _stored(run: Run) -> Stored | None:
    masks = run.masks
    if masks is None:
        costs = run.largest.costs if run.subnets else {}
        return Stored(FLOAT * costs["params"], costs.get("int8_bytes")) if "params" in costs else None
    bits = len(masks.sparsity) * masks.blocks / 8 if is_pruned(masks) else 0.0
    left_out = (1 - masks.union) * masks.prunable
    whole = FLOAT * (masks.params - left_out) + bits
    # Of a pathway's bytes, those of its kept weights and of its mask are known, and the rest is common to all. The mask
    # of a pathway that keeps everything is counted, too, but not stored.
    record = next((item for item in run.subnets if item.pathway in masks.sparsity), None)
    if record is None or "int8_bytes" not in record.costs:
        return Stored(whole, None)
    own = (1 - masks.sparsity[record.pathway]) * masks.prunable + masks.blocks / 8
    rest = record.costs["int8_bytes"] - own
    return Stored(whole, rest + masks.union * masks.prunable + bits)


def is_pruned(masks: MasksEntry) -> bool:
    """Whether a pathway leaves anything out; without, there is no mask to store."""
    return any(masks.sparsity.values())


@dataclass(frozen=True)
class Trained:
    """Training that a system needed, all its languages together.

    Attributes:
        steps: optimiser steps of its own runs.
        minutes: their minutes; None if they are not known.
        mask_steps: steps of other runs until they had found the masks with which its runs began.
        mask_minutes: minutes of these, in proportion to the steps; None if such a run is not in the report.
        start: names of the runs with whose weights its runs began.
    """

    steps: int
    minutes: float | None
    mask_steps: int
    mask_minutes: float | None
    start: tuple[str, ...]

    @property
    def all_steps(self) -> int:
        """Steps of all runs, without those of the start."""
        return self.steps + self.mask_steps

    @property
    def all_minutes(self) -> float | None:
        """Minutes of all runs, without those of the start."""
        return _sum((self.minutes, self.mask_minutes))


def trained(study: Study, system: System) -> Trained:
    """Return what training a system took: of its runs, and of those that found its masks."""
    by_name = {run.name: run for run in study.runs}
    # One run may have found the masks of several languages; then it is needed once, until the last of them.
    needed: dict[str, int] = {}
    for run in system.trained:
        for source in () if run.masks is None else run.masks.sources.values():
            needed[source.experiment] = max(source.step, needed.get(source.experiment, 0))
    minutes = [_minutes_of(by_name.get(name), steps) for name, steps in needed.items()]
    return Trained(
        steps=sum(run.steps for run in system.trained),
        minutes=_sum(run.train_minutes for run in system.trained),
        mask_steps=sum(needed.values()),
        mask_minutes=_sum(minutes),
        start=tuple(dict.fromkeys(run.start for run in system.trained if run.start)),
    )


def _minutes_of(run: Run | None, steps: int) -> float | None:
    """The minutes of the first steps of a run, None if they are not known."""
    if run is None or run.train_minutes is None or not run.steps:
        return None
    return run.train_minutes * steps / run.steps


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum, None if a value is not known."""
    listed = list(values)
    known = [value for value in listed if value is not None]
    return sum(known) if len(known) == len(listed) else None
