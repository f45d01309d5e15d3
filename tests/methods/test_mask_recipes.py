"""Recipes of mask learning that cannot be trained, and the names of budgets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slimasr.config.load import load_config, save_config
from slimasr.errors import UserError
from tests.methods.mask_kit import CONFORMER, build, ctc_model, mask_config
from tests.training.kit import tiny_config


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"budgets": [0.5, 0.5]}, "method.budgets: needs at least one, all different"),
        ({"budgets": []}, "method.budgets: needs at least one"),
        ({"budgets": [1.5]}, r"method.budgets.0: must be a share of the whole"),
        ({"budgets": [0.5, {"blocks": 1.5}]}, r"method.budgets.1: must be a share"),
        ({"budgets": [{"hours": 1}]}, r"method.budgets.0: must be a share"),
        ({"budgets": [0.5, 0.6], "learner": {"kind": "l0"}}, "budgets: learner.kind l0 learns one subnet"),
        ({"learner": {"temperature_min": 2.0}}, "learner.temperature_min: must not exceed temperature"),
        ({"subnet_scale": -1}, "method.subnet_scale: must be .*above 0, or focal"),
        ({"step1_share": 1.0}, "method.step1_share: must be"),
        ({"step1_share": 0.7}, "training.average_start: must be at least 0.7"),
    ],
)
def test_impossible_recipes_name_the_key(tmp_path: Path, method: dict[str, Any], message: str) -> None:
    save_config(mask_config(), tmp_path / "conf.yaml")
    settings = [f"method.{key}={json.dumps(value)}" for key, value in method.items()]
    with pytest.raises(UserError, match=message) as caught:
        load_config(tmp_path / "conf.yaml", settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"budgets": [0.01]}, r"method.budgets: 0.01 is .* what belongs to no group costs"),
        ({"budgets": [{"blocks": 2}]}, r"method.budgets: 2 blocks"),
        ({"budgets": [{"params": 1e9}]}, r"method.budgets: 1000000000 params is .*lower it"),
        ({"budgets": [{"macs": 1e6}]}, r"method.budgets: 1000000 macs limits macs, but method.criterion is params"),
    ],
)
def test_budgets_that_do_not_fit_the_model_are_named(method: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(mask_config(method))


def test_chunks_that_do_not_divide_are_named() -> None:
    encoder = {**CONFORMER, "ffn_dim": 40}
    with pytest.raises(UserError, match=r"method\.granularity.*ffn"):
        build(mask_config(model=ctc_model(encoder)))


def test_names_of_budgets() -> None:
    written = ["0.63", {"macs": "2.5e8"}, {"params": 2e6}, {"blocks": 4}, {"blocks": 1}]
    config = mask_config({"budgets": written}).method
    names = ["0.63", "2.5e8 macs", "2000000 params", "4 blocks", "1 block"]
    assert list(config.heads) == names
    # The record of an experiment holds the names.
    assert mask_config({"budgets": names}).method == config


def test_other_methods_learn_no_subnets() -> None:
    with pytest.raises(ValueError, match="learnt needs a method that chooses subnets"):
        tiny_config(space={"kind": "learnt"})
