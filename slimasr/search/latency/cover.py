"""Which choices of a search space a profile leaves open, and which subnets to profile."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import numpy as np

from slimasr.search.latency.fit import Matrix, Span, columns_of, matrix_of
from slimasr.search.latency.terms import TermTable
from slimasr.supernet.space import LayerSpace
from slimasr.supernet.subnet import Subnet

DRAWS_PER_TERM = 20
"""Mixed subnets are chosen from so many random ones for each independent term."""
MOST_DRAWS = 600
"""They are chosen from no more."""
MOST_LEVERAGE = 0.8
"""Subnets are added until no measurement has a larger share in the prediction of its own subnet: a subnet that is left
out is then predicted from others like it, and the noise of no single measurement decides a term."""
ENTANGLED = "it has too few different subnets to separate the times of the layers and of their sizes"
"""What is wrong with a profile that holds every choice, but no different combinations of them."""


def uncovered(table: TermTable, profiled: Iterable[Subnet]) -> list[str]:
    """Name the choices of a space whose latency does not follow from the profiled subnets; empty if there is none."""
    subnets = list(profiled)
    span = Span(map(table.of_subnet, subnets))
    if all(span.holds(table.of_subnet(subnet)) for subnet in table.basis()):
        return []
    seen = {name for subnet in subnets for name in table.choices_of(subnet)}
    named: list[str] = []
    for choice in table.choices():
        determined = any(span.holds(table.of_subnet(subnet)) for subnet in choice.subnets)
        if choice.name not in seen and choice.within not in named and not determined:
            named.append(choice.name)
    return named or [ENTANGLED]


def to_profile(table: TermTable, profiled: Sequence[Subnet] = (), seed: int = 0) -> list[Subnet]:
    """List the subnets to profile so that every choice of the space is covered.

    In a layer space further subnets with different layers follow, until every subnet can well be predicted from the
    others: they show the error of the model. Of many random ones, those are taken whose latency is known least.

    Args:
        table: the terms of the space.
        profiled: subnets that a profile holds already.
        seed: of the random subnets.
    """
    chosen: list[Subnet] = []
    # Max of every width, then every depth and size: whatever the profile does not determine yet.
    for subnet in table.basis():
        span = Span(map(table.of_subnet, [*profiled, *chosen]))
        if not span.holds(table.of_subnet(subnet)):
            chosen.append(subnet)
    for width in table.space.widths if table.is_additive else ():
        chosen += _mixed(table, [*profiled, *chosen], width, seed)
    return chosen


def _mixed(table: TermTable, known: Sequence[Subnet], width: float, seed: int) -> list[Subnet]:
    """List subnets of a width to profile in addition, so that each of its subnets is predicted well by the others."""
    own = [subnet for subnet in known if subnet.width == width]
    rank = Span(map(table.of_subnet, own)).rank
    candidates = _drawn(table, width, min(MOST_DRAWS, DRAWS_PER_TERM * rank), seed)
    candidates = [subnet for subnet in candidates if subnet not in own]
    rows = [table.of_subnet(subnet) for subnet in [*own, *candidates]]
    matrix = matrix_of(rows, columns_of(rows))
    taken = list(range(len(own)))
    open_ = list(range(len(own), len(rows)))
    while open_ and _leverages(matrix[taken]).max() > MOST_LEVERAGE:
        # The variance of a prediction is v' (A' A)^-1 v; a little is added to A' A, as terms may occur together only.
        inverse = np.linalg.inv(matrix[taken].T @ matrix[taken] + 1e-6 * np.eye(matrix.shape[1]))
        variances = np.einsum("ij,jk,ik->i", matrix[open_], inverse, matrix[open_])
        taken.append(open_.pop(int(np.argmax(variances))))
    return [candidates[index - len(own)] for index in taken[len(own) :]]


def _leverages(matrix: Matrix) -> Matrix:
    """Return the share of every measurement in the prediction of its own subnet; 1 = it follows from no others."""
    return np.asarray(np.einsum("ij,ji->i", matrix, np.linalg.pinv(matrix)))


def _drawn(table: TermTable, width: float, number: int, seed: int) -> list[Subnet]:
    """Draw different subnets of a width, so that all sizes are about equally likely."""
    assert isinstance(table.space, LayerSpace)
    rng = random.Random(seed)
    found: dict[Subnet, None] = {}
    for _ in range(number):
        fraction = rng.random()
        genes = {
            # Choices fall: each step towards the smallest is taken with the same probability.
            name: choices[sum(rng.random() < fraction for _ in choices[1:])]
            for name, choices in table.space.genes.items()
        }
        found[table.space.from_genes({**genes, "width": width})] = None
    return list(found)
