"""Pair the systems that the claims of paper 2 compare.

A subnet that a search chose is compared with the nearest size. Against a separate model (C2.1, C2.2) or an exit (C2.9)
this is the largest subnet of the Pareto front that is not larger. Between two Pareto fronts (C2.3) it is the subnet
whose size is nearest, if it is near enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from slimasr.claims.asked import Asked
from slimasr.claims.todm.models import FROM_THE_START, OVER, main_todm, of_model, todm_families
from slimasr.claims.verdicts import Rule, better, equal, not_worse
from slimasr.report.comparison.pairs import System, is_end, matches, not_larger
from slimasr.report.records import Run, SubnetRecord

MEDIUM_FRACTION = 1 / 3
"""Paper 2 compares channels with layers and channels between 41 and 60 MB: the lowest third of B0's sizes."""

EQUAL_FRACTION = 0.05
"""Subnets of two fronts whose parameters differ by a larger fraction are not of one size."""

BY_DIVERGENCE = (("E", "D"), ("G", "J"), ("I", "L"))
"""Models that differ in their divergence alone, alpha against KL."""

BY_CLASSES = (("G", "E"), ("I", "E"), ("J", "D"), ("L", "D"))
"""Models that differ in the number of their classes alone, against the 10 likeliest tokens."""

ENDS = ("max", "min")


RULES: Mapping[str, Rule] = {"C2.2": not_worse, "C2.5": equal}
"""How comparisons of a claim are judged, unless the first system has to be better."""


def pairs(runs: Sequence[Run]) -> Iterator[Asked]:
    """Yield every comparison that a claim needs, family by family."""
    for family in todm_families(runs):
        yield from todm_pairs(family.runs)


def todm_pairs(runs: Sequence[Run]) -> Iterator[Asked]:
    """Yield what the claims compare within one family. Models that it lacks have no comparisons."""
    main = main_todm(runs)
    if main is None:
        return
    yield from _against_separate(main, runs)
    yield from _medium(of_model(runs, "B1"), of_model(runs, "B0"))
    for first, second in _alike(runs):
        yield from _ends("C2.5", of_model(runs, first), of_model(runs, second))
    # Each pair has the model first that is better if the claim holds.
    for first, second in (("C", "D"), ("C", "E"), ("F", "E")):
        yield from _ends("C2.6", of_model(runs, first), of_model(runs, second), ends=("min",))
    yield from _ends("C2.7", of_model(runs, "C"), of_model(runs, "B1"), ends=("min",))
    yield from _exits(of_model(runs, "B1"), of_model(runs, "A3"))
    for run in runs:
        if run.model.endswith(FROM_THE_START):
            yield from _ends("C2.10", of_model(runs, run.model.removesuffix(FROM_THE_START)), run)


def _alike(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Models that differ in their divergence or its classes alone, including numbers of tokens without a letter."""
    taught = [run.model for run in runs if run.model.startswith(("D", "E")) and OVER in run.model]
    # What follows the letter, such as " over 50 tokens".
    tokens = list(dict.fromkeys(model[1:] for model in taught))
    by_divergence = [(f"E{number}", f"D{number}") for number in tokens]
    by_classes = [(letter + number, letter) for letter in ("E", "D") for number in tokens]
    return [*BY_DIVERGENCE, *by_divergence, *BY_CLASSES, *by_classes]


def _against_separate(main: Run, runs: Sequence[Run]) -> Iterator[Asked]:
    """The main run's max subnet (C2.1) and others (C2.2) against separate models of their size."""
    plain = of_model(runs, "A1")
    models = [run for run in runs if plain is not None and run.role == plain.role]
    for match in matches(main, models):
        ours = match.subnet
        claim = "C2.1" if ours is main.largest else "C2.2"
        size = _sizes(ours, match.model.largest)
        if is_end(main, ours):
            size = "max" if ours is main.largest else "min"
        # The paper's claim is about F. Other models are compared for the table, without a verdict.
        if main.model != "F":
            claim = ""
        pair = match.pair
        yield _asked(claim, pair.a, pair.b, pair.chosen, size)


def _medium(layers: Run | None, channels: Run | None) -> Iterator[Asked]:
    """C2.3: subnets of layers and channels against the nearest of channels alone, in the lowest third of their sizes.

    Each subnet of layers and channels is compared once. If each subnet of channels alone were, the verdict could
    depend on a single subnet of the other front that many of them are compared with.
    """
    if layers is None or channels is None:
        return
    theirs = [record for record in channels.front_records if record.is_decoded]
    if not theirs:
        return
    # The upper end of the lowest third.
    low = channels.smallest.params
    medium = low + MEDIUM_FRACTION * (channels.largest.params - low)
    for ours in layers.front_records:
        # The loop variable is safe in the lambda, which is called at once.
        nearest = min(theirs, key=lambda record: abs(record.params - ours.params))
        is_equal = abs(nearest.params - ours.params) <= EQUAL_FRACTION * nearest.params
        if ours.is_decoded and is_equal and nearest.params <= medium:
            yield _by_size("C2.3", layers, ours, channels, nearest)


def _exits(layers: Run | None, exits: Run | None) -> Iterator[Asked]:
    """C2.9: B1 against the smallest exit."""
    if layers is None or exits is None:
        return
    theirs = exits.smallest
    ours = not_larger(layers, theirs.params)
    if ours is not None:
        yield _by_size("C2.9", layers, ours, exits, theirs)


def _ends(claim: str, first: Run | None, second: Run | None, ends: Sequence[str] = ENDS) -> Iterator[Asked]:
    """The max and the min subnets of two runs."""
    if first is None or second is None:
        return
    for end in ends:
        ours = (first.role, end_of(first, end).id)
        theirs = (second.role, end_of(second, end).id)
        # No search chose max or min.
        yield _asked(claim, ours, theirs, False, end)


def end_of(run: Run, end: str) -> SubnetRecord:
    """Return the subnet that ``max`` or ``min`` stands for."""
    return run.largest if end == "max" else run.smallest


def _by_size(claim: str, first: Run, ours: SubnetRecord, second: Run, theirs: SubnetRecord) -> Asked:
    """Two subnets of about one size, at least one of which a search chose."""
    size = _sizes(ours, theirs)
    return _asked(claim, (first.role, ours.id), (second.role, theirs.id), True, size)


def _asked(claim: str, a: System, b: System, chosen: bool, size: str) -> Asked:
    return Asked(a, b, chosen, claim, size, RULES.get(claim, better))


def _sizes(ours: SubnetRecord, theirs: SubnetRecord) -> str:
    return f"{ours.params / 1e6:.3f} M against {theirs.params / 1e6:.3f} M parameters"
