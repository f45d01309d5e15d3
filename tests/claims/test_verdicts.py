"""The rules that turn intervals into verdicts; several comparisons against scipy's normal distribution."""

from __future__ import annotations

import pytest
from scipy.stats import norm

from slimasr.claims.verdicts import all_of, better, equal, judge_each, not_worse, one_of
from slimasr.report.comparison.rates import Comparison
from slimasr.report.findings import Verdict

HELD, NOT_HELD, OPEN, UNTESTED = Verdict.HELD, Verdict.NOT_HELD, Verdict.NOT_RESOLVED, Verdict.NOT_TESTED


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-5.0, -2.0, HELD),  # better for certain
        (-0.5, 0.9, HELD),  # at most within the margin
        (0.2, 0.8, HELD),  # worse for certain, but by less than the margin
        (-4.0, 3.0, OPEN),  # could be anything
        (0.5, 4.0, NOT_HELD),  # worse for certain, and not within the margin
        (2.0, 4.0, NOT_HELD),
    ],
)
def test_not_worse(low: float, high: float, verdict: Verdict) -> None:
    assert not_worse(low, high) is verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.5, 0.9, HELD),
        (-4.0, 3.0, OPEN),
        (-2.0, 0.1, OPEN),
        (2.0, 4.0, NOT_HELD),
        (-4.0, -2.0, NOT_HELD),
    ],
)
def test_equal(low: float, high: float, verdict: Verdict) -> None:
    assert equal(low, high) is verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-5.0, -0.1, HELD), (-5.0, 0.0, OPEN), (-0.1, 3.0, OPEN), (0.0, 3.0, OPEN), (0.1, 3.0, NOT_HELD)],
)
def test_better(low: float, high: float, verdict: Verdict) -> None:
    assert better(low, high) is verdict


def test_a_claim_over_widths_needs_all_of_them() -> None:
    assert all_of([HELD, HELD]) is HELD
    assert all_of([HELD, OPEN]) is OPEN
    assert all_of([HELD, OPEN, NOT_HELD]) is NOT_HELD
    assert all_of([]) is UNTESTED


def comparison(low: float, high: float) -> Comparison:
    return Comparison(("a", "w1"), ("b", "w1"), ("test",), (1,), 100, 9.0, 7.0, (low + high) / 2, low, high)


def test_one_of_several_comparisons_has_a_wider_interval() -> None:
    for number in (1, 2, 5):
        reference = norm(2.0, 1.0).interval(1 - 0.05 / number)
        widened = one_of(comparison(2.0 - 1.96, 2.0 + 1.96), number)
        assert (widened.low, widened.high) == pytest.approx(reference, abs=1e-3)


def test_a_failure_among_several_must_be_clearer_and_a_success_need_not() -> None:
    assert judge_each(better, [comparison(0.1, 4.1)]) == [NOT_HELD]
    assert judge_each(better, [comparison(0.1, 4.1)] * 2) == [OPEN, OPEN]
    assert judge_each(better, [comparison(-4.1, -0.1)] * 2) == [HELD, HELD]
