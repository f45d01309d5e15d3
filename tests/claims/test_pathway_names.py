"""Names of paper 5's models from their configurations and from the record of where masks come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from slimasr.claims import PAPERS
from slimasr.claims.pathways import role
from slimasr.config.schema import Config
from slimasr.report.roles import Described, roles_of
from slimasr.results.masks import MasksEntry
from tests.claims.pathway_kit import masks, source
from tests.report.made_up_configs import config, described, separate
from tests.report.made_up_pathways import recipe

TWO = ("fr", "it")
FIXED, ADAPTIVE = {"masks": "fixed"}, {"masks": "adaptive"}
LTH_50 = {**ADAPTIVE, "masks_from": {name: f"exp/lth_{name}@0.5" for name in TWO}}
FOUND = masks(TWO, sources={name: source(f"lth_{name}", 160, 0.5) for name in TWO})


def name_of(made: Config, mates: Sequence[Config], record: MasksEntry | None = None) -> str:
    name = role(Described(made, None, {}, record), [made, *mates])
    assert name is not None and name.words == (name.model,)
    return name.model


@pytest.mark.parametrize(
    ("expected", "languages", "pathways", "method"),
    [
        ("unpruned, fr", ["fr"], [], {**FIXED, "levels": []}),
        ("IMP-70, fr", ["fr"], [], FIXED),
        ("IMP-70 adaptive, fr", ["fr"], [], ADAPTIVE),
        ("LTH-70, fr", ["fr"], [], {**FIXED, "rewind": True}),
        ("LTH-50 adaptive, fr", ["fr"], [], {**ADAPTIVE, "rewind": True, "levels": [0.2, 0.5]}),
        ("LAP-70, fr+it", TWO, ["all"], FIXED),
        ("LAP-70 adaptive, fr+it", TWO, ["all"], ADAPTIVE),
        ("rewound LAP-70, fr+it", TWO, ["all"], {**FIXED, "rewind": True}),
        # Languages with one mask each from the beginning.
        ("IMP-70 adaptive, fr+it", TWO, [], ADAPTIVE),
    ],
)
def test_runs_that_find_masks(expected: str, languages: list[str], pathways: list[str], method: dict[str, Any]) -> None:
    assert name_of(recipe(languages, method, pathways), []) == expected


@pytest.mark.parametrize(
    ("masks_are", "facts"),
    [
        ("LTH-50", {}),
        ("IMP-50", {"rewind": False}),
        ("LAP-50", {"languages": ("all",), "rewind": False}),
        ("rewound LAP-50", {"languages": ("all",)}),
        ("adaptive LTH-50", {"adaptive": True}),
    ],
)
def test_given_masks_are_named_after_the_run_that_found_them(masks_are: str, facts: dict[str, Any]) -> None:
    record = masks(TWO, sources={name: source(f"any_{name}", 160, 0.5, **facts) for name in TWO})
    assert name_of(recipe(TWO, LTH_50), [], record) == f"Dynamic {masks_are}, fr+it"
    fixed = {**LTH_50, **FIXED}
    assert name_of(recipe(TWO, fixed), [], record) == f"ASR Pathways {masks_are}, fr+it"


def test_masks_of_several_kinds_and_of_unknown_ones() -> None:
    mixed = {"fr": source("a", 160, 0.5), "it": source("b", 160, 0.5, rewind=False)}
    assert name_of(recipe(TWO, LTH_50), [], masks(TWO, sources=mixed)) == "Dynamic LTH/IMP-50, fr+it"
    assert name_of(recipe(TWO, LTH_50), []) == "Dynamic masks-50, fr+it"


@pytest.mark.parametrize(
    ("rest", "method", "data"),
    [
        ("", {}, {}),
        ("n 50", {"adapt_interval": 50}, {}),
        ("no residual", {"residual": False}, {}),
        ("no zeroing", {"zeroing": False}, {}),
        ("keep moments", {"keep_moments": True}, {}),
        ("adapt until 1", {"adapt_until": 1.0}, {}),
        ("group lasso 1e-05", {"group_lasso": 1e-5}, {}),
        ("levels 0.2/0.5/0.6", {"levels": [0.2, 0.5, 0.6]}, {}),
        ("sampling power 0.5", {}, {"language_sampling": {"power": 0.5}}),
    ],
)
def test_ablations_are_told_apart_from_most_runs(rest: str, method: dict[str, Any], data: dict[str, Any]) -> None:
    usual = recipe(TWO, LTH_50, language_sampling="uniform")
    made = recipe(TWO, {**LTH_50, **method}, **{"language_sampling": "uniform", **data})
    # Runs of other kinds have settings of their own.
    others = [recipe(["fr"], {**ADAPTIVE, "adapt_interval": 20}), recipe(TWO, {**LTH_50, **FIXED})]
    name = name_of(made, [usual, usual, *others], FOUND)
    assert name == ", ".join(filter(None, ("Dynamic LTH-50, fr+it", rest)))


def test_dense_models_are_named_only_beside_pathways() -> None:
    pathways = recipe(TWO, LTH_50)
    dense, small = recipe(TWO, None), recipe(["fr"], None, d_model=16)
    experiments = {
        "ours": Described(pathways, None, {}, FOUND),
        "dense": described(dense, "w1", w1=900.0),
        "small": described(small, "w1", w1=400.0),
    }
    roles = roles_of(experiments, [paper.role for paper in PAPERS])
    assert [each.name for each in roles.values()] == ["Dynamic LTH-50, fr+it", "dense, fr+it", "small dense, fr"]
    assert [each.is_main for each in roles.values()] == [True, False, False]
    alone = roles_of({"dense": described(dense, "w1")}, [paper.role for paper in PAPERS])
    assert alone["dense"].name == "separate"


def test_baselines_of_other_families_keep_their_names() -> None:
    """A separate model of a supernet of another encoder is that supernet's baseline."""
    experiments = {
        "ours": Described(recipe(TWO, LTH_50), None, {}, FOUND),
        "theirs": described(config(), w1=900.0),
        "alone": described(separate(), "w1", w1=900.0),
    }
    roles = roles_of(experiments, [paper.role for paper in PAPERS])
    assert roles["alone"].name.startswith("separate") and roles["alone"].model == "A1"
    assert roles["alone"].family == roles["theirs"].family


def test_dense_models_join_the_pathways_of_their_encoder() -> None:
    emformer = {"kind": "emformer", "d_model": 32, "num_layers": 2, "ffn_dim": 64, "num_heads": 4}
    experiments = {
        "ours": Described(recipe(TWO, LTH_50), None, {}, FOUND),
        "streaming": Described(recipe(TWO, LTH_50, encoder=emformer), None, {}, FOUND),
        "dense": described(recipe(TWO, None), "w1", w1=900.0),
        "dense streaming": described(recipe(TWO, None, encoder=emformer), "w1", w1=900.0),
    }
    roles = roles_of(experiments, [paper.role for paper in PAPERS])
    assert {name: each.family for name, each in roles.items()} == {
        "ours": "",
        "streaming": "Emformer",
        "dense": "",
        "dense streaming": "Emformer",
    }
    assert roles["dense streaming"].model == roles["dense"].model == "dense, fr+it"
