"""Pair the systems that the claims of paper 3 compare: branches and models by their depths, never by their ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from slimasr.claims.asked import Asked
from slimasr.claims.collaborative.models import (
    FULL,
    PJ,
    PJ_LF,
    PJ_LF_CE,
    UNSHARED,
    by_depth,
    ce_models,
    collaborative_families,
    collaborative_run,
    is_collaborative,
    model_of,
    plain_models,
)
from slimasr.claims.verdicts import Rule, better, equal, not_worse
from slimasr.report.comparison.families import Family
from slimasr.report.comparison.pairs import System
from slimasr.report.records import Run

FOUR, THREE, TWO = 4, 3, 2
"""Numbers of branches in the paper's set-ups."""

Systems = Mapping[int, System]
"""Number of layers -> the system of this depth, the deepest first."""


def pairs(runs: Sequence[Run]) -> Iterator[Asked]:
    """Yield every comparison that a claim needs, family by family."""
    for family in collaborative_families(runs):
        yield from family_pairs(family)


def family_pairs(family: Family) -> Iterator[Asked]:
    """Yield what the claims compare within one family. Models that it lacks have no comparisons."""
    yield from _against_separate(family)
    yield from _factors(family)
    yield from _very_small_branch(family)
    plain = _models(plain_models(family))
    # Which of the two is better is what C3.5 is about, so that its own code judges it.
    yield from _at_each_depth("C3.5", _models(ce_models(family)), plain, equal, "CE against RNN-T alone")
    yield from _two_branches(family)
    yield from _weights(family)


def branches(run: Run | None) -> Systems:
    """Return the systems of a collaborative run, none if there is no run."""
    return {} if run is None else {number: (run.role, record.id) for number, record in by_depth(run).items()}


def _models(models: Mapping[int, Run]) -> Systems:
    return {number: (run.role, run.separate_of or "") for number, run in models.items()}


def _at_each_depth(claim: str, first: Systems, second: Systems, rule: Rule, says: str) -> Iterator[Asked]:
    """The systems of all depths that both have."""
    for number, system in first.items():
        if number in second:
            yield Asked(system, second[number], False, claim, f"{number} layers, {says}", rule)


def _against_separate(family: Family) -> Iterator[Asked]:
    """C3.1 at every depth, C3.2 at the largest one of four and of two branches."""
    plain = _models(plain_models(family))
    four = branches(collaborative_run(family.runs, FOUR, FULL))
    yield from _at_each_depth("C3.1", four, plain, better, "better than separate")
    for number in (FOUR, TWO):
        largest = dict(list(branches(collaborative_run(family.runs, number, FULL)).items())[:1])
        yield from _at_each_depth("C3.2", largest, plain, better, f"the largest of {number} better than separate")


def _factors(family: Family) -> Iterator[Asked]:
    """C3.3: the factors one after the other."""
    plain = _models(plain_models(family))
    pj, lf, ce, full = (
        branches(collaborative_run(family.runs, FOUR, factors)) for factors in (PJ, PJ_LF, PJ_LF_CE, FULL)
    )
    # The model that is better if the claim holds comes first.
    yield from _at_each_depth("C3.3", plain, pj, better, "separate better than PJ")
    yield from _at_each_depth("C3.3", lf, pj, better, "LF better than PJ")
    yield from _at_each_depth("C3.3", ce, lf, better, "CE better than LF")
    yield from _at_each_depth("C3.3", full, ce, equal, "KL equal to CE")


def _very_small_branch(family: Family) -> Iterator[Asked]:
    """C3.4: three branches, shared and unshared, at both ends."""
    shared = branches(collaborative_run(family.runs, THREE, FULL))
    unshared = branches(collaborative_run(family.runs, THREE, UNSHARED))
    if not shared:
        return
    smallest = {min(shared): shared[min(shared)]}
    largest = {max(shared): shared[max(shared)]}
    plain = _models(plain_models(family))
    yield from _at_each_depth("C3.4", plain, smallest, better, "separate better than shared")
    yield from _at_each_depth("C3.4", unshared, smallest, better, "unshared better than shared")
    yield from _at_each_depth("C3.4", unshared, largest, better, "unshared better than shared")


def _two_branches(family: Family) -> Iterator[Asked]:
    """C3.6: the smaller of two branches against the largest separate model."""
    two = branches(collaborative_run(family.runs, TWO, FULL))
    plain = _models(plain_models(family))
    if len(two) == TWO and max(two) in plain:
        what = f"{min(two)} layers of two branches no worse than {max(two)} layers alone"
        yield Asked(two[min(two)], plain[max(two)], False, "C3.6", what, not_worse)


def weighted(family: Family) -> dict[float, Run]:
    """Return the full models of three branches by their lambda, the smallest first; one seed of each."""
    found: dict[float, Run] = {}
    for run in filter(is_collaborative, family.runs):
        model = model_of(run)
        if (model.branches, model.factors) == (THREE, FULL) and model.weight is not None:
            found.setdefault(model.weight, run)
    return dict(sorted(found.items()))


def _weights(family: Family) -> Iterator[Asked]:
    """C3.7: every lambda against every other one at every depth."""
    for (first, one), (second, other) in combinations(weighted(family).items(), 2):
        says = f"lambda {first:g} against {second:g}"
        yield from _at_each_depth("C3.7", branches(one), branches(other), better, says)
