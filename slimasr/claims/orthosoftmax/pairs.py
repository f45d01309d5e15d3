"""Pair the systems that the claims of paper 4 compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from slimasr.claims.asked import Asked
from slimasr.claims.orthosoftmax.models import (
    AUX_LOSS,
    COMPONENT,
    FOCAL,
    L0,
    LAYER,
    MACS,
    MAIN,
    ORTHOSOFTMAX,
    PARAMS,
    TOP_K,
    Model,
    found,
    is_mask_learning,
    mask_families,
    model_of,
)
from slimasr.claims.verdicts import Rule, better, not_worse
from slimasr.report.architecture import depth
from slimasr.report.comparison.families import Family
from slimasr.report.comparison.pairs import System, matches
from slimasr.report.records import Run, SubnetRecord

SCALE, ORTHOGONALITY = "subnet_scale", "orthogonality"

MEDIUM = "C4.3, medium"
"""Stands for a claim where the next larger subnet is compared, with which the gap at min is compared in turn."""


def pairs(runs: Sequence[Run]) -> Iterator[Asked]:
    """Yield every comparison that a claim needs, family by family."""
    for family in mask_families(runs):
        yield from family_pairs(family)


def family_pairs(family: Family) -> Iterator[Asked]:
    """Yield what the claims compare within one family. Models that it lacks have no comparisons."""
    yield from _against_separate(family)
    yield from _granularity(family.runs)
    yield from _exits(family)
    yield from _criterion(family.runs)
    yield from _scales(family.runs)
    yield from _orthogonality(family.runs)


def size_in_words(run: Run, record: SubnetRecord) -> str:
    """Return which subnet of a run this is: max, or its budget, with a word for the smallest."""
    if record is run.largest:
        return "max"
    return f"{record.name} (min)" if record is run.smallest else record.name


def _against_separate(family: Family) -> Iterator[Asked]:
    """C4.1: every subnet of the method in full against the separate model of its budget."""
    seen: set[str] = set()
    for run in family.runs:
        # A system is a role and a name, so that the first seed stands for all.
        if not is_mask_learning(run) or run.role in seen or not _is_full(model_of(run)):
            continue
        seen.add(run.role)
        for match in matches(run, family.dedicated):
            pair = match.pair
            what = f"{size_in_words(run, match.subnet)} no worse than separate"
            yield Asked(pair.a, pair.b, False, "C4.1", what, not_worse)


def _is_full(model: Model) -> bool:
    return model.is_whole and replace(model, rest="") == MAIN


def _granularity(runs: Sequence[Run]) -> Iterator[Asked]:
    """C4.2: components against layers at min; in the paper OrthoSoftmax gains by them for MACs alone."""
    for learner in (ORTHOSOFTMAX, TOP_K, L0):
        for criterion in (MACS, PARAMS):
            finer, coarser = (found(runs, Model(learner, criterion, unit)) for unit in (COMPONENT, LAYER))
            counts = learner != ORTHOSOFTMAX or criterion == MACS
            if learner == ORTHOSOFTMAX:
                first, second, says = finer, coarser, "components better than layers"
            else:
                first, second, says = coarser, finer, "layers better than components"
            yield from _at("C4.2", "min", first, second, better, says, counts)


def _exits(family: Family) -> Iterator[Asked]:
    """C4.3: separate models against the exits of their depth, at the smallest and at the next larger exit."""
    exits = next((run for run in family.runs if run.model == AUX_LOSS), None)
    if exits is None:
        return
    # The smallest first.
    ordered = sorted(matches(exits, family.dedicated), key=lambda match: match.subnet.params)
    for claim, match in zip(("C4.3", MEDIUM), ordered, strict=False):
        if match.subnet is exits.largest or (claim == "C4.3") != (match.subnet is exits.smallest):
            return
        layers = depth(match.subnet.architecture)
        pair = match.pair
        yield Asked(pair.b, pair.a, False, claim, f"{layers} blocks, separate better than {AUX_LOSS}", better)


def _criterion(runs: Sequence[Run]) -> Iterator[Asked]:
    """C4.4: MACs against parameters at equal granularity, at min."""
    for unit in (COMPONENT, LAYER):
        macs, params = (found(runs, Model(ORTHOSOFTMAX, criterion, unit)) for criterion in (MACS, PARAMS))
        yield from _at("C4.4", "min", macs, params, not_worse, f"{unit}s, macs no worse than params")


def _scales(runs: Sequence[Run]) -> Iterator[Asked]:
    """C4.5: the focal scale against every number, at both ends."""
    main = found(runs, MAIN)
    for value, run in ablations(runs, SCALE).items():
        # Of the numbers, 0.1 ruins the small subnet; larger ones need only be no better than focal.
        rule, says = (better, "better than") if value <= 0.1 else (not_worse, "no worse than")
        yield from _at("C4.5", "min", main, run, rule, f"{FOCAL} {says} {value:g}")
        yield from _at("C4.5", "max", main, run, not_worse, f"{FOCAL} no worse than {value:g}")


def _orthogonality(runs: Sequence[Run]) -> Iterator[Asked]:
    """C4.6: the rising weight against constant ones, and a large constant against a small one, at min.

    The paper's own figures carry the claim at max alone, which is shown too.
    """
    main = found(runs, MAIN)
    constants = ablations(runs, ORTHOGONALITY)
    for end, counts in (("min", True), ("max", False)):
        for value, run in constants.items():
            yield from _at("C4.6", end, main, run, better, f"0 -> 1 better than constant {value:g}", counts)
    if len(constants) > 1:
        (small, first), *_, (large, second) = constants.items()
        yield from _at("C4.6", "min", first, second, better, f"constant {small:g} better than {large:g}")


def ablations(runs: Sequence[Run], key: str) -> Mapping[float, Run]:
    """Return the runs that differ from the method in full by one number alone, by that number, the smallest first."""
    values: dict[float, Run] = {}
    for run in runs:
        if is_mask_learning(run):
            model = model_of(run)
            word, _, value = model.rest.partition(" ")
            if replace(model, rest="") == MAIN and word == key and _is_number(value):
                values.setdefault(float(value), run)
    return dict(sorted(values.items()))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _at(
    claim: str, end: str, first: Run | None, second: Run | None, rule: Rule, says: str, counts: bool = True
) -> Iterator[Asked]:
    """The max or the min subnets of two runs; those of min only if both runs have as many budgets."""
    if first is None or second is None:
        return
    ours, theirs = (run.largest if end == "max" else run.smallest for run in (first, second))
    if end == "min" and len(first.subnets) != len(second.subnets):
        return
    a: System = (first.role, ours.name)
    b: System = (second.role, theirs.name)
    learner = model_of(first).learner
    yield Asked(a, b, False, claim, f"{end}, {learner}, {says}", rule, counts)
