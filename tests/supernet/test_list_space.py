"""Lists of subnets that a recipe gives or a training has learnt; those of trees are in test_branches.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slimasr.config.load import parse_config
from slimasr.config.schema import Config
from slimasr.errors import UserError
from slimasr.supernet.build import build_space
from slimasr.supernet.groups import Group
from slimasr.supernet.list_space import LearntSubnet, learnt_space
from slimasr.supernet.subnet import Subnet

HALF = Subnet(units=(("0.ffn1", ((8, 16), (24, 32))), ("1.conv", 0)), head="0.63")
SMALL = Subnet(units=(("0.heads", 1),), head="4 blocks")
LEARNT = [
    LearntSubnet("max", Subnet()),
    LearntSubnet("0.63", HALF, 63.0, 62.5, (Group(0, "ffn1", 8, 16),)),
    LearntSubnet("4 blocks", SMALL, 40.0, 39.0),
]


def recipe(**sections: Any) -> Config:
    encoder = {"kind": "conformer", "d_model": 16, "num_layers": 3, "num_heads": 4, "head_dim": 4, "ffn_dim": 32}
    model = {"encoder": encoder, "exits": [2]}
    return parse_config({"name": "t", "data": {"corpus": "digits"}, "model": model, **sections})


def test_learnt_subnets_have_the_names_of_their_budgets() -> None:
    space = learnt_space(LEARNT)
    assert list(space) == [Subnet(), HALF, SMALL] and space.max == Subnet() and space.min == SMALL
    names = {"max": Subnet(), "w1": Subnet(), "1": Subnet(), "0.63": HALF, "4 blocks": SMALL, "min": SMALL}
    for name, subnet in {**names, HALF.id: HALF, HALF.to_json(): HALF, " 4 blocks ": SMALL}.items():
        assert space.parse(name) == subnet
    assert HALF.id.endswith("-0.63") and SMALL.id.endswith("-4_blocks")
    for name in ("0.5", "0.630", "4", "blocks", '{"units": {"0.heads": 1}}'):
        with pytest.raises(UserError, match="choose one of: max, min, 0.63, 4 blocks$"):
            space.parse(name)


def test_budgets_that_became_one_subnet_name_it_both() -> None:
    one = Subnet(units=(("0.heads", 1),))
    space = learnt_space([LEARNT[0], LearntSubnet("0.64", one, 64.0), LearntSubnet("0.63", one, 63.0)])
    assert list(space) == [Subnet(), one] and space.names == ("max", "0.64")
    assert space.parse("0.64") == space.parse("0.63") == space.parse("min") == one


def test_learnt_subnets_survive_a_checkpoint() -> None:
    plain = json.loads(json.dumps([item.to_dict() for item in LEARNT]))
    again = [LearntSubnet.from_dict(item) for item in plain]
    # The groups are for the record; the subnet's index sets say the same.
    assert [(item.name, item.subnet, item.budget, item.cost) for item in again] == [
        (item.name, item.subnet, item.budget, item.cost) for item in LEARNT
    ]


@pytest.mark.parametrize("name", ["min", "0.63", "0.5", HALF.id, HALF.to_json(), "all"])
def test_before_they_are_learnt_only_max_can_be_named(name: str) -> None:
    space = learnt_space((), "epoch-001.pt is too early")
    assert list(space) == [Subnet()] and space.parse("max") == space.parse("w1") == space.parse("{}") == Subnet()
    with pytest.raises(UserError, match="epoch-001.pt is too early"):
        space.parse(name)


def test_other_subnets_of_the_same_names_are_another_space() -> None:
    other = [*LEARNT[:2], LearntSubnet("4 blocks", Subnet(units=(("0.heads", 2),), head="4 blocks"), 40.0)]
    assert learnt_space(LEARNT).genes == learnt_space(other).genes
    assert learnt_space(LEARNT).describe() != learnt_space(other).describe()


def test_a_recipe_lists_subnets() -> None:
    written = {
        "wide": {"units": {"2.ffn1": [[8, 24]]}},
        "half": {"width": 0.5},
        "short": '{"path": [0, 1], "head": "exit2"}',
    }
    config = recipe(space={"kind": "list", "subnets": written})
    space = build_space(config)
    wide, half = Subnet(units=(("2.ffn1", ((8, 24),)),)), Subnet(0.5)
    assert list(space) == [Subnet(), wide, half, Subnet(1.0, (0, 1), head="exit2")]
    assert space.parse("wide") == wide and space.parse("0.5") == half and space.widths == (1.0, 0.5)
    assert build_space(parse_config(config.model_dump(mode="json"))) == space


@pytest.mark.parametrize(
    ("subnet", "message"),
    [
        ({"width": 2}, "width: must be above 0"),
        ("{", "Expecting"),
        ({"path": [0, 3]}, r"path: must hold different layers of 0 to 2, at least one; got \[0, 3\]"),
        ({"path": [0, 0]}, "path: must hold different layers"),
        ({"path": []}, "path: must hold different layers"),
        ({"units": {"0.ffn": 4}}, r"units: the encoder has no 0\.ffn$"),
        ({"units": {"3.conv": 4}}, r"units: the encoder has no 3\.conv$"),
        ({"units": {"0.heads": [[3, 5]]}}, r"units of 0\.heads: the module has only 4"),
        ({"units": {"0.heads": [3, -1]}}, r"units of 0\.heads: must not be negative"),
        ({"head": "exit3"}, r"head: the model has no output exit3; it has exit2; model.exits adds outputs"),
        ({"path": [0, 1, 2], "width": 1.0, "units": {}, "head": None}, ""),
        ({}, "is the same subnet as max"),
        ({"width": 0.5}, "is the same subnet as other"),
    ],
)
def test_a_listed_subnet_that_does_not_fit_is_named(subnet: Any, message: str) -> None:
    config = recipe(space={"kind": "list", "subnets": {"other": {"width": 0.5}, "bad one": subnet}})
    if not message:
        assert build_space(config).parse("bad one") == Subnet(1.0, (0, 1, 2))
        return
    with pytest.raises(UserError, match=f"^space.subnets.bad one: {message}"):
        build_space(config)


@pytest.mark.parametrize("name", ["max", "min", "all", "front", "{}", "", " a", "a\n"])
def test_names_with_another_meaning_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a subnet"):
        recipe(space={"kind": "list", "subnets": {name: {"width": 0.5}}})


def test_a_learnt_space_needs_a_method_that_learns_it() -> None:
    with pytest.raises(
        ValueError, match="space.kind: learnt needs a method that chooses subnets, but slimmable does not"
    ):
        recipe(space={"kind": "learnt"})
