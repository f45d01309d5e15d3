"""A search space knows all its subnets."""

from __future__ import annotations

import random

import pytest

from slimasr.errors import UserError
from slimasr.supernet.space import WidthSpace
from slimasr.supernet.subnet import Subnet

SPACE = WidthSpace((0.25, 1.0, 0.5, 0.75))


def test_knows_its_subnets() -> None:
    assert [s.width for s in SPACE] == [1.0, 0.75, 0.5, 0.25]
    assert SPACE.count() == 4 and SPACE.max == Subnet(1.0) and SPACE.min == Subnet(0.25)
    assert Subnet(0.5) in SPACE and Subnet(0.6) not in SPACE and Subnet(0.5, (0,)) not in SPACE and "w0.5" not in SPACE


def test_samples_reach_everything_and_stay_inside() -> None:
    rng = random.Random(0)
    drawn = {SPACE.sample(rng) for _ in range(200)}
    assert drawn == set(SPACE)
    mutants = {SPACE.mutate(SPACE.max, rng, 0.5) for _ in range(200)}
    assert mutants == set(SPACE)
    assert {SPACE.mutate(SPACE.max, rng, 0.0) for _ in range(20)} == {SPACE.max}
    assert {SPACE.crossover(SPACE.max, SPACE.min, rng) for _ in range(50)} == {SPACE.max, SPACE.min}


@pytest.mark.parametrize(
    ("text", "width"),
    [("0.5", 0.5), (".5", 0.5), ("w0.5", 0.5), ("max", 1.0), ("min", 0.25), ('{"width": 0.75}', 0.75)],
)
def test_parse(text: str, width: float) -> None:
    assert SPACE.parse(text) == Subnet(width)


@pytest.mark.parametrize("text", ["0.3", "2", "0", "small", '{"width": 0.5, "depth": 3}', "{", "nan"])
def test_parse_names_what_exists(text: str) -> None:
    with pytest.raises(UserError, match=r"w1, w0.75, w0.5, w0.25"):
        SPACE.parse(text)
