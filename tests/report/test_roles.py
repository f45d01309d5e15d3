"""What an experiment stands for follows from its configuration, whatever it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slimasr.config.load import load_config, parse_config
from slimasr.config.schema import Config
from slimasr.report.roles import Described, roles_of, todm_model

MH_SSM = {"kind": "mh_ssm", "d_model": 96, "num_layers": 8, "ffn_dim": 384}
CONF = Path(__file__).resolve().parents[2] / "egs/an4/conf"
CONFORMER = {"d_model": 96, "num_layers": 8, "ffn_dim": 384}
ADAPTIVE = {**MH_SSM, "adaptive_dropout": True}
LAYERS = {"kind": "layers", "depths": [4, 6, 8], "units": {"ffn": [96, 192, 384]}}
CHANNELS = {**LAYERS, "depths": [8]}
SCALED = {"optimizer": {"kind": "scaled_adam"}}
LOWER = {"epoch": 21, "kd_weight": 0.1}


def config(
    encoder: dict[str, Any] | None = None,
    space: dict[str, Any] | None = None,
    kind: str = "todm",
    loss: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    **method: Any,
) -> Config:
    tree = {
        "name": "any",
        "data": {"corpus": "digits"},
        "model": {"encoder": MH_SSM if encoder is None else encoder},
        "space": LAYERS if space is None else space,
        "method": {"kind": kind, **method},
        "loss": loss or {},
        "training": training or {},
    }
    return parse_config(tree)


def taught(divergence: str, **keys: Any) -> dict[str, Any]:
    return {"distillation": {"divergence": divergence, **keys}}


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
    ],
)
def test_letters_of_paper_2(letter: str, made: Config) -> None:
    assert todm_model(made) == letter


def described(made: Config, separate_of: str | None = None, **params: float) -> Described:
    return Described(made, separate_of, params)


def separate(encoder: dict[str, Any] | None = None, loss: dict[str, Any] | None = None) -> Config:
    return config(encoder, {"kind": "widths", "widths": [1.0]}, "separate", loss)


def test_separate_models_join_the_supernet_of_their_size() -> None:
    narrow = {**CONFORMER, "d_model": 48, "ffn_dim": 192}
    slimmable = config(CONFORMER, {"kind": "widths"}, "slimmable")
    auxiliary = {"auxiliary": {"layers": [4, 8], "alignments": "exp/align"}}
    roles = roles_of(
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
    longer = roles_of(
        {"c": described(config(ADAPTIVE)), "c2": described(config(ADAPTIVE, training={"num_epochs": 90}))}
    )
    assert [role.name for role in longer.values()] == ["todm C", "todm C, 90 epochs"]
    heads = [config({**CONFORMER, "slimming": s}, {"kind": "widths"}, "slimmable") for s in ("head_count", "head_size")]
    names = [role.name for role in roles_of({str(n): described(made) for n, made in enumerate(heads)}).values()]
    assert names == ["slimmable", "slimmable, head size"]


def test_seeds_of_a_model_share_its_role() -> None:
    roles = roles_of({str(seed): described(config(ADAPTIVE)) for seed in (1, 2)})
    assert roles["1"] == roles["2"]


def test_models_with_exits_are_a3() -> None:
    exits = parse_config(
        {
            "name": "any",
            "data": {"corpus": "digits"},
            "model": {"encoder": MH_SSM, "exits": [4, 8]},
            "space": {"kind": "layers", "depths": [4, 8]},
            "method": {"kind": "multi_exit"},
        }
    )
    roles = roles_of({"ours": described(config()), "exits": described(exits)})
    assert (roles["exits"].name, roles["exits"].model) == ("multi-exit", "A3")


@pytest.mark.parametrize("prefix", ["todm", "todm_conformer"])
def test_no_two_supernets_of_compare_todm_share_a_role(prefix: str) -> None:
    plain = [f"{prefix}{variant}" for variant in ("", "_layers", "_channels", "_dropout", "_kl", "_alpha", "_exits")]
    grid = ["loss.distillation.classes=target_blank", "loss.distillation.num_kd_tokens=20"]
    made: list[tuple[str, tuple[str, ...]]] = [(name, ()) for name in plain]
    made += [(f"{prefix}_{divergence}", (classes,)) for divergence in ("kl", "alpha") for classes in grid]
    made += [(f"{prefix}_dropout", ("training.optimizer={kind: scaled_adam, lr: 1.9e-2}",))]
    configs = [load_config(CONF / f"{name}.yaml", changes) for name, changes in made]
    roles = roles_of({str(number): described(own) for number, own in enumerate(configs)})
    assert len({role.name for role in roles.values()}) == len(made) == 12
