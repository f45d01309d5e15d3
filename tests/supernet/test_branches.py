"""The space that is a list of subnets, and the one that a recipe's tree fills."""

from __future__ import annotations

import random
from typing import Any

import pytest

from slimasr.config.load import parse_config
from slimasr.config.schema import Config
from slimasr.errors import UserError
from slimasr.search.history import Candidate
from slimasr.search.trials import as_candidate, as_trial
from slimasr.supernet.build import build_space
from slimasr.supernet.list_space import ListSpace
from slimasr.supernet.subnet import Subnet

SHALLOW = Subnet(1.0, (0, 6, 7))
MIDDLE = Subnet(1.0, (0, 4, 5, 8))


def recipe(shared: int | None = 1, depths: tuple[int, ...] = (5, 4, 2), space: str = "branches") -> Config:
    """A recipe with a tree, or without one."""
    encoder: dict[str, Any] = {"kind": "mh_ssm", "num_layers": depths[0], "d_model": 16}
    if shared is not None:
        encoder["tree"] = {"shared": shared, "depths": list(depths)}
    return parse_config(
        {"name": "t", "data": {"corpus": "digits"}, "model": {"encoder": encoder}, "space": {"kind": space}}
    )


def test_a_tree_fills_the_space_deepest_first() -> None:
    space = build_space(recipe())
    assert list(space) == [Subnet(), Subnet(1.0, (0, 5, 6, 7)), Subnet(1.0, (0, 8))]
    assert space.max == Subnet() and space.min == Subnet(1.0, (0, 8)) and space.count() == 3
    assert space.widths == (1.0,)
    assert space.max in space and Subnet(1.0, (0,)) not in space and "l4" not in space


def test_every_command_can_name_a_branch() -> None:
    space = build_space(recipe())
    for names, subnet in zip((("max", "l5", "1", "w1"), ("l4",), ("min", "l2")), space, strict=True):
        for name in (*names, subnet.id, subnet.to_json(), f" {names[0]} "):
            assert space.parse(name) == subnet


@pytest.mark.parametrize("text", ["l3", "0.5", "w1-l4", '{"path": [0, 1]}', "{", "deep"])
def test_a_branch_that_does_not_exist_names_those_that_do(text: str) -> None:
    with pytest.raises(UserError, match=r"choose one of: max, min, l5, l4, l2$"):
        build_space(recipe()).parse(text)


def test_a_list_without_names_goes_by_ids() -> None:
    space = ListSpace((Subnet(), MIDDLE, SHALLOW))
    assert space.parse(SHALLOW.id) == SHALLOW
    with pytest.raises(UserError, match=f"max, min, w1, {MIDDLE.id}, {SHALLOW.id}$"):
        space.parse("l3")


def test_draws_reach_every_branch_and_no_other() -> None:
    space, rng = build_space(recipe()), random.Random(0)
    assert {space.sample(rng) for _ in range(100)} == set(space)
    assert {space.mutate(space.max, rng, 1.0) for _ in range(100)} == set(space)
    assert {space.mutate(space.min, rng, 0.0) for _ in range(10)} == {space.min}
    assert {space.crossover(space.max, space.min, rng) for _ in range(50)} == {space.max, space.min}


def test_a_trial_of_a_study_is_the_branch_that_it_was_made_of() -> None:
    space = build_space(recipe())
    for subnet in space:
        assert space.from_genes(space.genes_of(subnet)) == subnet
        candidate = Candidate(subnet, "measured", {"params": 1.0}, 0, 3, 10, 0.5)
        assert as_candidate(as_trial(candidate, space, "params", {}), space).subnet == subnet


def test_trees_with_branches_of_equal_depths_are_different_spaces() -> None:
    trees = [recipe(1), recipe(0), recipe(1, (5, 4)), recipe(1, (5, 3, 2)), recipe(1, (6, 4, 2))]
    found = [build_space(config).describe() for config in trees]
    assert all(first != second for i, first in enumerate(found) for second in found[:i])


@pytest.mark.parametrize(
    ("shared", "space", "message"),
    [
        (None, "branches", "space.kind: branches are those of model.encoder.tree"),
        (1, "widths", "model.encoder.tree: its branches are the subnets of space.kind: branches"),
    ],
)
def test_tree_and_space_need_each_other(shared: int | None, space: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe(shared, space=space)
