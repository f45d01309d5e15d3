"""Judge what masks have become at the end of step 1 (claim C4.8 of paper 4), from the record of the training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from slimasr.claims.asked import prefix_of
from slimasr.claims.orthosoftmax.models import is_mask_learning, mask_families, model_of, orthosoftmax_runs
from slimasr.claims.verdicts import Evidence
from slimasr.report.comparison.families import line_name
from slimasr.report.findings import Finding, Verdict
from slimasr.report.records import Run, Study, SubnetRecord
from slimasr.report.tables.table import ABSENT, Table

UNDECIDED = 0.05
"""Masks are k-hot if at most this fraction of k gates is neither 0 nor 1: between 0.1 and 0.9."""

OFF_IDENTITY = 0.1
"""D is close to the identity if no entry differs from it by more than this."""

DUPLICATES = 0.05
"""At most this fraction of the rows may choose a group that an earlier row has chosen."""


@dataclass(frozen=True)
class Mask:
    """The mask of a budget at the end of the last epoch of step 1.

    Attributes:
        epoch: this epoch.
        k: number of its rows or groups.
        undecided: gates between 0.1 and 0.9.
        off_identity: largest difference of D from the identity, None for learners without D.
        duplicates: rows whose group an earlier row has.
    """

    epoch: int
    k: float
    undecided: float
    off_identity: float | None
    duplicates: float


def mask_of(run: Run, budget: str) -> Mask | None:
    """Return the last mask of a budget that the training has logged, None if it has logged none."""
    for point in reversed(run.curve):
        figures = {key.removeprefix(f"{budget}/"): value for key, value in point.method.items()}
        # Masks are logged until the subnets have been chosen.
        if "undecided" in figures:
            duplicates = figures.get("duplicates", 0.0)
            off = figures.get("off_identity")
            return Mask(point.epoch, figures["k"], figures["undecided"], off, duplicates)
    return None


def masks_are_binary(study: Study) -> Finding:
    """Judge C4.8 for every OrthoSoftmax run that is no ablation, from logs and the record of the subnets."""
    text = (
        "Masks end k-hot, the products of their rows close to the identity, subnets nested and within one group of "
        f"their budgets. Held where at most {100 * UNDECIDED:g} % of k gates are between 0.1 and 0.9, no product is "
        f"more than {OFF_IDENTITY:g} off, at most {100 * DUPLICATES:g} % of the rows share a group, each subnet's "
        "groups are all in the next larger one, and each costs less than its budget by less than the largest group. "
        "Runs that leave out a part of the method are in the table of masks alone."
    )
    evidence = Evidence()
    for family in mask_families(study.runs):
        for run in orthosoftmax_runs(family.runs):
            if model_of(run).is_whole:
                _judge_run(evidence, f"{prefix_of(family)}{line_name(run, study.runs)}", run)
    return evidence.finding("C4.8", text)


def _judge_run(evidence: Evidence, name: str, run: Run) -> None:
    learnt = _learnt(run)
    for record in learnt:
        mask = mask_of(run, record.name)
        if mask is not None:
            evidence.add(f"{name}, {record.name}: {_in_words(mask)}", _held(_is_binary(mask)))
        inside, says = _within_budget(record)
        if inside is not None:
            evidence.add(f"{name}, {record.name}: {says}", _held(inside))
    if len(learnt) > 1:
        nested = all(_groups(small) <= _groups(large) for large, small in pairwise(learnt))
        evidence.add(f"{name}: subnets are {'' if nested else 'not '}nested", _held(nested))


def _learnt(run: Run) -> list[SubnetRecord]:
    """The learnt subnets of a run, the largest first."""
    return [record for record in run.subnets if record.learnt is not None]


def _groups(record: SubnetRecord) -> set[str]:
    assert record.learnt is not None
    return set(record.learnt.groups)


def _is_binary(mask: Mask) -> bool:
    off = 0.0 if mask.off_identity is None else mask.off_identity
    decided = mask.undecided <= UNDECIDED * mask.k
    return decided and off <= OFF_IDENTITY and mask.duplicates <= DUPLICATES * mask.k


def _in_words(mask: Mask) -> str:
    off = "" if mask.off_identity is None else f", products at most {mask.off_identity:.3f} off the identity"
    return (
        f"k {mask.k:.0f}, {mask.undecided:.0f} undecided gates, {mask.duplicates:.0f} duplicates{off} after epoch "
        f"{mask.epoch}, the last before the choice"
    )


def _within_budget(record: SubnetRecord) -> tuple[bool | None, str]:
    """Whether a subnet's cost is below its budget by less than the largest group, and both figures in words."""
    found = record.learnt
    if found is None or found.budget is None or found.cost is None or found.largest_group is None:
        return None, ""
    room = found.budget - found.cost
    says = f"costs {100 * found.cost / found.budget:.2f} % of its budget, {room / found.largest_group:.2f} groups below"
    return 0 < room < found.largest_group, says


def _held(is_so: bool) -> Verdict:
    return Verdict.HELD if is_so else Verdict.NOT_HELD


def mask_table(study: Study) -> Table:
    """Make the table of the masks of all learners at the end of step 1, and of what the subnets cost."""
    rows = [row for run in study.runs if is_mask_learning(run) for row in _rows(run, study.runs)]
    columns = ("model", "budget", "epoch", "k", "undecided gates", "max of D - I", "duplicates", "cost, % of budget")
    note = (
        "Masks after the last epoch before the subnets were chosen. Undecided: gates between 0.1 and 0.9; duplicates: "
        "rows that choose a group which an earlier row has chosen; cost: true cost of the subnet after rounding."
    )
    return Table("Masks", columns, tuple(rows), note)


def _rows(run: Run, runs: Sequence[Run]) -> Iterator[tuple[str, ...]]:
    for record in _learnt(run):
        mask = mask_of(run, record.name)
        figures: tuple[str, ...] = (ABSENT,) * 5
        if mask is not None:
            off = ABSENT if mask.off_identity is None else f"{mask.off_identity:.3f}"
            figures = (str(mask.epoch), f"{mask.k:.0f}", f"{mask.undecided:.0f}", off, f"{mask.duplicates:.0f}")
        found = record.learnt
        share = ABSENT
        if found is not None and found.budget and found.cost is not None:
            share = f"{100 * found.cost / found.budget:.2f}"
        yield (line_name(run, runs), record.name, *figures, share)
