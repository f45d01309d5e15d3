"""Methods train an Emformer as any other encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slimasr.encoders.emformer import Emformer
from tests.training.kit import TinyBatches, make_trainer, tiny_config, tiny_tokenizer

SIZES = {"d_model": 16, "num_layers": 2, "num_heads": 2, "ffn_dim": 32, "dropout": 0.0}
WINDOW = {"segment": 4, "left_context": 6, "right_context": 1, "memory": 1, "position": "relative"}
WIDTHS = {"kind": "widths", "widths": [0.5, 1.0]}
LAYERS = {"kind": "layers", "depths": [2, 1], "units": {"heads": [2, 1], "ffn": [32, 16]}, "widths": [1.0]}
CONVOLVED = {"macaron": True, "conv_kernel": 7}
PARTS = {**LAYERS, "units": {"ffn1": [32, 16], "conv": [16, 8], "heads": [2, 1], "ffn": [32, 16]}}
EXITS = {"kind": "layers", "depths": [2, 1], "widths": [1.0]}


@pytest.mark.parametrize(
    ("method", "space", "exits", "modules"),
    [
        ("slimmable", WIDTHS, [], {}),
        ("todm", LAYERS, [], {}),
        ("todm", PARTS, [], CONVOLVED),
        ("multi_exit", EXITS, [1], {}),
    ],
)
def test_training_lowers_the_losses(
    tmp_path: Path, method: str, space: dict[str, Any], exits: list[int], modules: dict[str, Any]
) -> None:
    """Transducer and CTC, of max and min at least."""
    encoder = {"kind": "emformer", **SIZES, **WINDOW, **modules}
    config = tiny_config(
        model={"frontend": {"kind": "stack"}, "encoder": encoder, "exits": exits},
        training={"spec_augment": None, "optimizer": {"lr": 1e-2}},
        method={"kind": method},
        space=space,
    )
    trainer = make_trainer(config, tmp_path)
    assert isinstance(trainer.objective.model.encoder, Emformer)
    batch = TinyBatches(tiny_tokenizer()).make(["a", "b", "c"])
    reports = [trainer.stepper.step([batch], trainer.context()).report for _ in range(15)]
    first, last = reports[0].losses, reports[-1].losses
    # Those of random subnets change from step to step.
    names = first.keys() & last.keys()
    assert len(names) >= 4
    assert all(last[name] < 0.6 * first[name] for name in names), (first, last)
