"""Which systems are compared, and for which claim.

A subnet that a search chose is compared by the nearest size: with a separate model, or an exit, the largest subnet of
the front that is not larger; front with front (C2.3), what is nearest, if near enough. Such comparisons are over the
test sets alone, as the dev set made the choice; max and min subnets are nobody's choice and are compared over all sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from slimasr.report.records import Run, SubnetRecord
from slimasr.report.roles import FROM_THE_START, OVER, SEPARATE, SLIMMABLE

System = tuple[str, str]
"""Role and subnet id."""

MEDIUM_SHARE = 1 / 3
"""Paper 2 compares channels with layers and channels between 41 and 60 MB: the lowest third of B0's sizes."""

EQUAL_SHARE = 0.05
"""Subnets of two fronts whose parameters differ by a larger share are not of one size."""

BY_DIVERGENCE = (("E", "D"), ("G", "J"), ("I", "L"))
BY_CLASSES = (("G", "E"), ("I", "E"), ("J", "D"), ("L", "D"))


@dataclass(frozen=True)
class Pair:
    """Two systems to compare.

    Attributes:
        claim: that it is for, empty for tables.
        a: role and subnet id of the first.
        b: of the second.
        size: which size they are.
        chosen: whether a search chose one of them by its dev WER.
    """

    claim: str
    a: System
    b: System
    size: str
    chosen: bool = False


def all_pairs(runs: Sequence[Run]) -> Iterator[Pair]:
    """Every comparison that a claim or table asks for."""
    for family in dict.fromkeys(run.family for run in runs):
        mates = [run for run in runs if run.family == family]
        yield from _slimmable_pairs(mates)
        yield from todm_pairs(mates)


def _slimmable_pairs(runs: Sequence[Run]) -> Iterator[Pair]:
    """Slimmable against separate and every variant, size by size; and neighbouring widths of slimmable."""
    main = next((run for run in runs if run.role.startswith(SLIMMABLE)), None)
    if main is None:
        return
    ids = [subnet.id for subnet in main.subnets]
    others = [run.role for run in runs if run.role.startswith((SLIMMABLE, SEPARATE))]
    variants = dict.fromkeys(role for role in others if role != main.role)
    for role in sorted(variants, key=lambda role: not role.startswith(SEPARATE)):
        yield from (Pair("", (main.role, subnet), (role, subnet), subnet) for subnet in ids)
    for wide, narrow in pairwise(ids):
        yield Pair("", (main.role, wide), (main.role, narrow), f"{wide} against {narrow}")


def todm_pairs(runs: Sequence[Run]) -> Iterator[Pair]:
    """What the claims of paper 2 compare, within one family."""
    main = main_todm(runs)
    if main is None:
        return
    yield from _against_separate(main, runs)
    yield from _medium(of_model(runs, "B1"), of_model(runs, "B0"))
    others = list(dict.fromkeys(run.model[1:] for run in runs if run.model[:1] in "DE" and OVER in run.model))
    by_divergence = [*BY_DIVERGENCE, *((f"E{tokens}", f"D{tokens}") for tokens in others)]
    by_classes = [*BY_CLASSES, *((letter + tokens, letter) for letter in "ED" for tokens in others)]
    for a, b in (*by_divergence, *by_classes):
        yield from _ends("C2.5", of_model(runs, a), of_model(runs, b))
    for a, b in (("C", "D"), ("C", "E"), ("F", "E")):
        yield from _ends("C2.6", of_model(runs, a), of_model(runs, b), ends=("min",))
    yield from _ends("C2.7", of_model(runs, "C"), of_model(runs, "B1"), ends=("min",))
    yield from _exits(of_model(runs, "B1"), of_model(runs, "A3"))
    for run in runs:
        if run.model.endswith(FROM_THE_START):
            yield from _ends("C2.10", of_model(runs, run.model.removesuffix(FROM_THE_START)), run)


def main_todm(runs: Sequence[Run]) -> Run | None:
    """The run that stands for the method: model F, else what comes nearest to it."""
    found = (of_model(runs, model) for model in ("F", "E", "D", "C", "B1", "B0"))
    return next((run for run in found if run is not None), next((run for run in runs if run.is_todm), None))


def of_model(runs: Sequence[Run], model: str) -> Run | None:
    """The first run of a letter of paper 2."""
    return next((run for run in runs if run.model == model), None)


def not_larger(run: Run, params: float) -> SubnetRecord | None:
    """The largest decoded subnet of the front, or max or min, with at most so many parameters."""
    known = {record.id: record for record in (*run.front_records, run.largest, run.smallest)}
    fitting = [record for record in known.values() if record.params <= params and record.is_decoded]
    return max(fitting, key=lambda record: (record.params, record.id in run.front), default=None)


def _against_separate(main: Run, runs: Sequence[Run]) -> Iterator[Pair]:
    """The main run's max subnet (C2.1) and others (C2.2) against separate models of their size."""
    letters = {"max": "C2.1", "other": "C2.2"} if main.model == "F" else {"max": "", "other": ""}
    role = next((run.role for run in runs if run.model == "A1"), "")
    models = {run.separate_of: run for run in runs if run.role == role and run.subnets}
    for subnet, run in sorted(models.items(), key=lambda item: -item[1].largest.params):
        params = run.largest.params
        ours = main.subnet(subnet or "") if _is_end(main, subnet) else not_larger(main, params)
        if ours is None:
            continue
        end = "max" if ours is main.largest else "min" if ours is main.smallest else ""
        claim = letters["max" if end == "max" else "other"]
        size = end or f"{ours.params / 1e6:.3f} M against {params / 1e6:.3f} M parameters"
        yield Pair(claim, (main.role, ours.id), (role, subnet or ""), size, chosen=not end)


def _medium(layers: Run | None, channels: Run | None) -> Iterator[Pair]:
    """C2.3: each subnet of layers and channels once, against the channels' nearest, in the lowest third of their sizes.

    Only once, as the verdict would else hang on one subnet that many larger ones are held against.
    """
    theirs = [] if channels is None else [record for record in channels.front_records if record.is_decoded]
    if layers is None or channels is None or not theirs:
        return
    low, high = channels.smallest.params, channels.largest.params
    for ours in (record for record in layers.front_records if record.is_decoded):
        nearest = min(theirs, key=lambda record: abs(record.params - ours.params))
        equal = abs(nearest.params - ours.params) <= EQUAL_SHARE * nearest.params
        if equal and nearest.params <= low + MEDIUM_SHARE * (high - low):
            size = f"{ours.params / 1e6:.3f} M against {nearest.params / 1e6:.3f} M parameters"
            yield Pair("C2.3", (layers.role, ours.id), (channels.role, nearest.id), size, chosen=True)


def _exits(layers: Run | None, exits: Run | None) -> Iterator[Pair]:
    """C2.9: B1 against the smallest exit."""
    if layers is None or exits is None:
        return
    theirs = exits.smallest
    ours = not_larger(layers, theirs.params)
    if ours is not None:
        size = f"{ours.params / 1e6:.3f} M against {theirs.params / 1e6:.3f} M parameters"
        yield Pair("C2.9", (layers.role, ours.id), (exits.role, theirs.id), size, chosen=True)


def _ends(claim: str, a: Run | None, b: Run | None, ends: Sequence[str] = ("max", "min")) -> Iterator[Pair]:
    if a is None or b is None:
        return
    for end in ends:
        ours, theirs = (run.largest if end == "max" else run.smallest for run in (a, b))
        yield Pair(claim, (a.role, ours.id), (b.role, theirs.id), end)


def _is_end(run: Run, subnet: str | None) -> bool:
    return subnet in (run.largest.id, run.smallest.id)
