"""Learning rate laws against formulas worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from slimasr.config.schema import ProgressScheduleConfig
from slimasr.errors import UserError
from slimasr.training.schedule import progress_of, progress_scale


@pytest.mark.parametrize(
    ("options", "points"),
    [
        ({"kind": "constant", "warmup": 0.2}, {0.05: 0.25, 0.1: 0.5, 0.2: 1.0, 0.9: 1.0}),
        ({"kind": "linear", "warmup": 0.2}, {0.1: 0.5, 0.2: 1.0, 0.6: 0.5, 1.0: 0.0}),
        ({"kind": "linear", "warmup": 0.0, "final_scale": 0.1}, {0.0: 1.0, 0.5: 0.55, 1.0: 0.1}),
        ({"kind": "cosine", "warmup": 0.0}, {0.0: 1.0, 1 / 3: 0.75, 0.5: 0.5, 1.0: 0.0}),
        ({"kind": "noam", "warmup": 0.04}, {0.02: 0.5, 0.04: 1.0, 0.16: 0.5, 1.0: 0.2}),
        (
            {"kind": "tri_stage", "warmup": 0.1, "hold": 0.4, "final_scale": 0.01},
            {0.05: 0.5, 0.1: 1.0, 0.5: 1.0, 0.75: 0.1, 1.0: 0.01},
        ),
        ({"kind": "tri_stage", "warmup": 0.5, "hold": 0.6, "final_scale": 0.01}, {0.9: 1.0, 1.0: 1.0}),
    ],
)
def test_laws(options: dict[str, Any], points: dict[float, float]) -> None:
    config = ProgressScheduleConfig(**options)
    for progress, expected in points.items():
        assert progress_scale(config, progress) == pytest.approx(expected, abs=1e-12)


def test_noam_is_the_original_formula_up_to_its_peak() -> None:
    """min(n^-0.5, n w^-1.5), Vaswani et al. 2017, eq. 3, with n updates and w of warm-up."""
    total, warmup = 1000, 100
    config = ProgressScheduleConfig(kind="noam", warmup=warmup / total)
    for n in (1, 37, 100, 101, 640, 1000):
        original = min(n**-0.5, n * warmup**-1.5)
        assert progress_scale(config, n / total) == pytest.approx(original * math.sqrt(warmup))


def test_cosine_follows_torch() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=0.2)
    config = ProgressScheduleConfig(kind="cosine", warmup=0.0, final_scale=0.2)
    for n in range(51):
        assert progress_scale(config, n / 50) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()


def test_every_step_learns() -> None:
    config = ProgressScheduleConfig(kind="linear", warmup=0.1)
    scales = [progress_scale(config, progress_of(step, 20)) for step in range(20)]
    assert min(scales) > 0.0
    assert sum(scales) == pytest.approx(10.0, rel=0.02)


@pytest.mark.parametrize("options", [{"kind": "noam", "warmup": 0.0}, {"kind": "tri_stage", "final_scale": 0.0}])
def test_undefined_laws_name_their_key(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"training\.schedule\.(warmup|final_scale)"):
        progress_scale(ProgressScheduleConfig(**options), 0.5)
