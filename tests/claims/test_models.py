"""What papers call an experiment follows from its configuration, whatever its folder is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimasr.claims import PAPERS
from slimasr.claims.todm.models import meaning, todm_model
from slimasr.config.load import load_config
from slimasr.config.schema import Config
from slimasr.report.roles import Described, Role, roles_of
from tests.report.made_up_configs import (
    ADAPTIVE,
    CHANNELS,
    CONFORMER,
    config,
    described,
    separate,
    taught,
    with_exits,
)

CONF = Path(__file__).resolve().parents[2] / "egs/an4/conf"
SCALED = {"optimizer": {"kind": "scaled_adam"}}
LOWER = {"epoch": 21, "kd_weight": 0.1}


def named(experiments: dict[str, Described]) -> dict[str, Role]:
    return roles_of(experiments, [paper.role for paper in PAPERS])


@pytest.mark.parametrize(
    ("letter", "made"),
    [
        ("B0", config(space=CHANNELS)),
        ("B1", config()),
        ("C", config(ADAPTIVE)),
        ("C", config(ADAPTIVE, loss=taught("kl", kd_weight=0.0))),
        ("D", config(ADAPTIVE, loss=taught("kl"))),
        ("E", config(ADAPTIVE, loss=taught("alpha"))),
        ("F", config(ADAPTIVE, loss=taught("alpha"), phases=[{**LOWER, **SCALED}])),
        ("G", config(ADAPTIVE, loss=taught("alpha", classes="target_blank"))),
        ("I", config(ADAPTIVE, loss=taught("alpha", num_kd_tokens=100))),
        ("J", config(ADAPTIVE, loss=taught("kl", num_kd_tokens=2))),
        ("L", config(ADAPTIVE, loss=taught("kl", num_kd_tokens=100))),
        ("E over 5 tokens", config(ADAPTIVE, loss=taught("alpha", num_kd_tokens=5))),
        ("E, then less teaching", config(ADAPTIVE, loss=taught("alpha"), phases=[LOWER])),
        ("D, then as F", config(ADAPTIVE, loss=taught("kl"), phases=[{**LOWER, **SCALED}])),
        ("E, fixed dropout", config(loss=taught("alpha"))),
        ("C, ScaledAdam from the start", config(ADAPTIVE, training=SCALED)),
        ("B0, adaptive dropout", config(ADAPTIVE, CHANNELS)),
        ("E, channels only", config(ADAPTIVE, CHANNELS, loss=taught("alpha"))),
    ],
)
def test_letters_of_paper_2(letter: str, made: Config) -> None:
    assert todm_model(made) == letter


def test_letters_have_a_meaning_also_with_what_differs_from_them() -> None:
    assert meaning("C, ScaledAdam from the start") == "B1, adaptive dropout, ScaledAdam from the start"
    assert meaning("D over 20 tokens") == "C, taught by KL over the 20 likeliest tokens"


def test_separate_models_join_the_supernet_of_their_size() -> None:
    narrow = {**CONFORMER, "d_model": 48, "ffn_dim": 192}
    slimmable = config(CONFORMER, {"kind": "widths"}, "slimmable")
    auxiliary = {"auxiliary": {"layers": [4, 8], "alignments": "exp/align"}}
    roles = named(
        {
            "ours": described(config(ADAPTIVE), w1=900.0),
            "wide": described(slimmable, w1=1000.0, **{"w0.5": 300.0}),
            "a": described(separate(), "w1", w1=900.0),
            "b": described(separate(), "w1-l4-0123abcd", w1=500.0),
            "c": described(separate(CONFORMER), "w1", w1=1000.0),
            "d": described(separate(narrow), "w0.5", w1=300.0),
            "e": described(separate(loss=auxiliary), "w1", w1=900.0),
        }
    )
    assert {name: role.name for name, role in roles.items()} == {
        "ours": "todm C, MH-SSM",
        "wide": "slimmable",
        "a": "separate, MH-SSM",
        "b": "separate, MH-SSM",
        "c": "separate",
        "d": "separate",
        "e": "separate, auxiliary losses, MH-SSM",
    }
    assert roles["e"].model == "A2"
    assert {roles[name].model for name in "abcd"} == {"A1"}


def test_longer_training_and_slimmable_traits_are_named() -> None:
    longer = named({"c": described(config(ADAPTIVE)), "c2": described(config(ADAPTIVE, training={"num_epochs": 90}))})
    assert [role.name for role in longer.values()] == ["todm C", "todm C, 90 epochs"]
    heads = [config({**CONFORMER, "slimming": s}, {"kind": "widths"}, "slimmable") for s in ("head_count", "head_size")]
    names = [role.name for role in named({str(n): described(made) for n, made in enumerate(heads)}).values()]
    assert names == ["slimmable", "slimmable, head size"]


def test_seeds_of_a_model_share_its_role() -> None:
    roles = named({str(seed): described(config(ADAPTIVE)) for seed in (1, 2)})
    assert roles["1"] == roles["2"]


def test_models_with_exits_are_a3() -> None:
    roles = named({"ours": described(config()), "exits": described(with_exits())})
    assert (roles["exits"].name, roles["exits"].model) == ("multi-exit", "A3")


@pytest.mark.parametrize("prefix", ["todm", "todm_conformer"])
def test_no_two_supernets_of_compare_todm_share_a_role(prefix: str) -> None:
    plain = [f"{prefix}{variant}" for variant in ("", "_layers", "_channels", "_dropout", "_kl", "_alpha", "_exits")]
    grid = ["loss.distillation.classes=target_blank", "loss.distillation.num_kd_tokens=20"]
    made: list[tuple[str, tuple[str, ...]]] = [(name, ()) for name in plain]
    made += [(f"{prefix}_{divergence}", (classes,)) for divergence in ("kl", "alpha") for classes in grid]
    made += [(f"{prefix}_dropout", ("training.optimizer={kind: scaled_adam, lr: 1.9e-2}",))]
    configs = [load_config(CONF / f"{name}.yaml", changes) for name, changes in made]
    roles = named({str(number): described(own) for number, own in enumerate(configs)})
    assert len({role.name for role in roles.values()}) == len(made) == 12
