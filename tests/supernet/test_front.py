"""Fronts against brute-force dominance; limits."""

from __future__ import annotations

import random

import pytest

from slimasr.errors import UserError
from slimasr.supernet.front import Limits, Measurement, best_under, find_front, no_subnet_meets
from slimasr.supernet.subnet import Subnet


def point(number: int, wer: float, params: float, loss: float = 1.0, **costs: float) -> Measurement:
    return Measurement(Subnet(width=1.0 / (1 + number)), wer, loss, {"params": params, **costs})


def dominated(item: Measurement, others: list[Measurement]) -> bool:
    """By the definition, pair by pair."""
    a = (item.wer, item.costs["params"])
    return any(
        all(x <= y for x, y in zip(b, a, strict=True)) and b != a for b in ((o.wer, o.costs["params"]) for o in others)
    )


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("levels", [4, 1000])
def test_front_is_what_nothing_dominates(seed: int, levels: int) -> None:
    """Few levels make ties frequent."""
    rng = random.Random(seed)
    points = [point(n, rng.randrange(levels), rng.randrange(levels)) for n in range(40)]
    front = find_front(points, "params")
    expected = {p.subnet for p in points if not dominated(p, points)}
    assert {p.subnet for p in front} == expected
    assert [p.costs["params"] for p in front] == sorted(p.costs["params"] for p in front)


def test_best_under_limits_is_the_best_of_those_that_fit() -> None:
    rng = random.Random(3)
    points = [point(n, rng.random(), rng.random(), macs=rng.random(), rtf=rng.random()) for n in range(200)]
    limits = Limits(params=0.6, macs=0.5, rtf=0.7)
    fitting = [p for p in points if p.costs["params"] <= 0.6 and p.costs["macs"] <= 0.5 and p.costs["rtf"] <= 0.7]
    assert best_under(points, limits).wer == min(p.wer for p in fitting)
    assert best_under(points, Limits()).wer == min(p.wer for p in points)


def test_equal_wer_is_decided_by_loss_then_size() -> None:
    points = [point(0, 5.0, 100, loss=0.3), point(1, 5.0, 300, loss=0.2), point(2, 5.0, 200, loss=0.2)]
    assert best_under(points, Limits()) is points[2]


def test_a_limit_may_be_met_exactly() -> None:
    assert best_under([point(0, 5.0, 100)], Limits(params=100)).wer == 5.0


def test_megabytes_are_a_million_bytes() -> None:
    assert Limits.from_options(None, 1.5, None, None).given == {"int8_bytes": 1_500_000}


def test_the_lower_of_two_bounds_holds() -> None:
    both = Limits(params=5.0, macs=1.0).tightened(Limits(params=7.0, macs=0.0, rtf=0.5))
    assert both == Limits(params=5.0, macs=0.0, rtf=0.5)
    assert Limits().tightened(Limits()) == Limits()


def test_a_limit_nothing_meets_names_the_nearest() -> None:
    points = [point(1, 9.0, 2000, rtf=0.5), point(3, 20.0, 1000, rtf=0.4)]
    with pytest.raises(UserError, match=r"params <= 900: the nearest is w0.25 with 1,000 parameters"):
        best_under(points, Limits(params=900))
    with pytest.raises(UserError, match=r"nearest is w0.5 with 2,000 parameters$"):
        best_under([points[0]], Limits(params=1500, rtf=0.6))


def test_limits_need_a_search() -> None:
    with pytest.raises(UserError, match="slimasr-search"):
        best_under([], Limits(params=1))
    with pytest.raises(UserError, match="no measured rtf"):
        best_under([point(0, 5.0, 100)], Limits(rtf=1.0))


def test_limits_judge_costs() -> None:
    limits = Limits(params=100.0, macs=10.0)
    assert limits.excess({"params": 50.0, "macs": 20.0, "rtf": 1.0}) == 2.0
    assert limits.allow({"params": 100.0, "macs": 10.0})
    assert not limits.allow({"params": 100.1, "macs": 10.0})
    assert Limits().excess({}) == 0.0 and Limits().allow({})


def test_the_nearest_subnet_is_that_of_the_smallest_excess() -> None:
    rng = random.Random(7)
    costs = {Subnet(width=1.0 / (1 + n)): {"params": 1.0 + rng.random(), "macs": 2.0 + rng.random()} for n in range(50)}
    limits = Limits(params=1.0, macs=1.5)
    nearest = min(costs, key=lambda s: max(costs[s]["params"] / 1.0, costs[s]["macs"] / 1.5))
    assert f"the nearest is {nearest.id} with" in str(no_subnet_meets(limits, costs))
