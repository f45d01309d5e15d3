"""Fit an additive model of latency by non-negative least squares, and measure its error on subnets left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimasr.search.latency.terms import Terms

Matrix = NDArray[np.float64]
TOLERANCE = 1e-8
"""Singular values below this share of the largest count as 0."""


@dataclass(frozen=True)
class Measured:
    """One measurement.

    Attributes:
        name: id of the subnet; measurements of one subnet are left out together.
        terms: its terms.
        latency: measured latency in milliseconds, above 0.
    """

    name: str
    terms: Terms
    latency: float


@dataclass(frozen=True)
class LeftOut:
    """A subnet that was predicted from the measurements of the others.

    Attributes:
        name: id of the subnet.
        measured: its measured latency in milliseconds, the mean of its measurements.
        predicted: its predicted latency in milliseconds.
    """

    name: str
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """Distance of the prediction from the measurement, as a share of the measurement."""
        return abs(self.predicted - self.measured) / self.measured


class Span:
    """The linear combinations of some subnets' terms: what their latencies determine."""

    def __init__(self, terms: Iterable[Terms]) -> None:
        rows = list(terms)
        self._columns = columns_of(rows)
        matrix = matrix_of(rows, self._columns)
        if not rows:
            self._basis = np.zeros((0, 0))
            return
        _, singular, right = np.linalg.svd(matrix, full_matrices=False)
        self._basis = right[singular > TOLERANCE * max(singular[0], 1.0)]

    @property
    def rank(self) -> int:
        """How many independent combinations there are."""
        return len(self._basis)

    def holds(self, terms: Terms) -> bool:
        """Return whether the latency of a subnet with these terms follows from those of the given ones."""
        if not terms.keys() <= self._columns.keys():
            return False
        row = matrix_of([terms], self._columns)[0]
        rest = row - self._basis.T @ (self._basis @ row)
        return bool(np.linalg.norm(rest) <= 1e-6 * max(1.0, float(np.linalg.norm(row))))


def fit(measured: Sequence[Measured]) -> dict[str, float]:
    """Return the time of every term in milliseconds, at least 0, with the smallest relative squared errors.

    A latency is compared with its prediction as a ratio, as a device's noise grows with the time that it measures.
    """
    from scipy.optimize import nnls

    rows = [item.terms for item in measured]
    columns = columns_of(rows)
    latencies = np.array([item.latency for item in measured])
    times, _ = nnls(matrix_of(rows, columns) / latencies[:, None], np.ones(len(measured)))
    return dict(zip(columns, map(float, times), strict=True))


def predict(times: Mapping[str, float], terms: Terms) -> float:
    """Return the latency of a subnet in milliseconds.

    Args:
        times: the result of `fit`.
        terms: the terms of the subnet, all of which are among them.
    """
    return sum(times[name] * number for name, number in terms.items())


def leave_one_out(measured: Sequence[Measured]) -> list[LeftOut]:
    """Predict every subnet from the measurements of the others, as far as these determine it."""
    found = []
    for name in dict.fromkeys(item.name for item in measured):
        own = [item for item in measured if item.name == name]
        others = [item for item in measured if item.name != name]
        terms = own[0].terms
        if Span(item.terms for item in others).holds(terms):
            mean = sum(item.latency for item in own) / len(own)
            found.append(LeftOut(name, mean, predict(fit(others), terms)))
    return found


def columns_of(rows: Iterable[Terms]) -> dict[str, int]:
    """Number the terms in the order in which they first occur."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: index for index, name in enumerate(names)}


def matrix_of(rows: Sequence[Terms], columns: Mapping[str, int]) -> Matrix:
    """Return how often each term occurs in each row, (rows, terms)."""
    matrix = np.zeros((len(rows), len(columns)))
    for index, row in enumerate(rows):
        for name, number in row.items():
            matrix[index, columns[name]] = number
    return matrix
