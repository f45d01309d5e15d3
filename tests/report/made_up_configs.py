"""Configurations of made-up experiments."""

from __future__ import annotations

from typing import Any

from slimasr.config.load import parse_config
from slimasr.config.schema import Config
from slimasr.report.roles import Described

MH_SSM = {"kind": "mh_ssm", "d_model": 96, "num_layers": 8, "ffn_dim": 384}
CONFORMER = {"d_model": 96, "num_layers": 8, "ffn_dim": 384}
ADAPTIVE = {**MH_SSM, "adaptive_dropout": True}
LAYERS = {"kind": "layers", "depths": [4, 6, 8], "units": {"ffn": [96, 192, 384]}}
CHANNELS = {**LAYERS, "depths": [8]}


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


def described(made: Config, separate_of: str | None = None, **params: float) -> Described:
    return Described(made, separate_of, params)


def separate(encoder: dict[str, Any] | None = None, loss: dict[str, Any] | None = None) -> Config:
    return config(encoder, {"kind": "widths", "widths": [1.0]}, "separate", loss)


def with_exits() -> Config:
    return parse_config(
        {
            "name": "any",
            "data": {"corpus": "digits"},
            "model": {"encoder": MH_SSM, "exits": [4, 8]},
            "space": {"kind": "layers", "depths": [4, 8]},
            "method": {"kind": "multi_exit"},
        }
    )
