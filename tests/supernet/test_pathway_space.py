"""The space of pathways: one per language, in the order of the recipe; recipes that cannot work are refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from slimasr.config.load import parse_config
from slimasr.config.method import SlimmableConfig
from slimasr.config.schema import Config
from slimasr.errors import UserError
from slimasr.models.build import pathway_spec
from slimasr.supernet.build import build_space
from slimasr.supernet.pathways import PathwaySpec
from slimasr.supernet.space import LayerSpace, WidthSpace
from slimasr.supernet.subnet import Subnet


@pytest.fixture(autouse=True)
def _trains_pathways(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the space asks of a method is a flag of its section; here the simplest method has it."""
    monkeypatch.setattr(SlimmableConfig, "trains_pathways", True)


def recipe(languages: list[str], encoder: dict[str, Any] | None = None, **sections: Any) -> Config:
    model = {"encoder": {"kind": "conformer", "conv_norm": "layer", **(encoder or {})}}
    space = {"kind": "pathways", "languages": languages, **sections.pop("space", {})}
    method = sections.pop("method", {"share_predictor": False})
    tree = {"name": "t", "data": {"corpus": "digits"}, "model": model, "space": space, "method": method}
    return parse_config({**tree, **sections})


def test_a_pathway_has_the_name_of_its_language() -> None:
    config = recipe(["nl", "en", "fr"])
    space = build_space(config)
    assert list(space) == [Subnet(pathway=name) for name in ("nl", "en", "fr")]
    assert space.max == Subnet(pathway="nl") and space.min == Subnet(pathway="fr") and space.widths == (1.0,)
    for name in ("en", '{"pathway": "en"}', " en "):
        assert space.parse(name) == Subnet(pathway="en")
    for name in ("it", "w1", "1.0", "0.5"):
        with pytest.raises(UserError, match="choose one of: max, min, nl, en, fr$"):
            space.parse(name)
    assert space.describe() != build_space(recipe(["nl", "en", "it"])).describe()
    assert pathway_spec(config) == PathwaySpec(("nl", "en", "fr"), (8, 1))
    assert str(pathway_spec(recipe(["all"], space={"block": [4, 2]}))) == "pathways all of 4 x 2 blocks"
    assert pathway_spec(config.model_copy(update={"space": parse_config(PLAIN).space})) is None


PLAIN = {"name": "t", "data": {"corpus": "digits"}}


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        ([], "languages: needs at least one, all different"),
        (["fr", "fr"], "languages: needs at least one, all different"),
        (["pt-BR", "pt_BR"], "languages: needs at least one, all different"),
        (["fr", "all"], "languages: all is one pathway for every language"),
        (["front"], "languages: 'front' cannot name a pathway"),
        (["0.5"], "languages: '0.5' cannot name a pathway"),
    ],
)
def test_impossible_languages_are_refused(languages: list[str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe(languages)


def test_what_several_pathways_cannot_share_is_refused() -> None:
    for languages in (["fr"], ["all"]):
        recipe(languages, {"conv_norm": "batch"}, method={"share_predictor": True})
    with pytest.raises(ValidationError, match=r"model\.encoder\.conv_norm: .* set layer"):
        recipe(["fr", "nl"], {"conv_norm": "batch"})
    with pytest.raises(ValidationError, match=r"method\.share_predictor: each pathway has a predictor of its own"):
        recipe(["fr", "nl"], method={"share_predictor": True})
    with pytest.raises(ValidationError, match=r"block\.0"):
        recipe(["fr"], space={"block": [0, 1]})


def test_other_methods_and_lists_have_no_pathways() -> None:
    with pytest.raises(
        ValidationError, match=r"space\.kind: pathways needs a method that trains pathways, but separate"
    ):
        recipe(["fr"], method={"kind": "separate"})
    for space in (WidthSpace((1.0, 0.5)), LayerSpace((2, 1), (("ffn", (8, 4)),))):
        assert Subnet() in space and Subnet(pathway="fr") not in space
        with pytest.raises(UserError, match="is not in the search space"):
            space.parse('{"pathway": "fr"}')
    listed = {**PLAIN, "space": {"kind": "list", "subnets": {"other": {"pathway": "fr"}}}}
    with pytest.raises(UserError, match=r"space\.subnets\.other: pathway: only space\.kind: pathways has pathways"):
        build_space(parse_config(listed))
