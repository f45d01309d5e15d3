"""Learning rate laws against formulas worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slimasr.config.load import load_config
from slimasr.config.training import (
    EdenScheduleConfig,
    ForceAnnealScheduleConfig,
    PiecewiseScheduleConfig,
    ProgressScheduleConfig,
)
from slimasr.errors import UserError
from slimasr.training.schedule import learning_rate_scale, progress_of, progress_scale


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
def test_undefined_laws_name_their_key(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("name: x\ndata: {corpus: an4}\n")
    with pytest.raises(UserError, match=r"training\.schedule\.(warmup|final_scale)"):
        load_config(path, [f"training.schedule={options}"])


def test_force_anneal_gives_the_published_rates() -> None:
    """0.006 until epoch 59, then 0.006 * 0.96^(e + 1 - 60): 5.0e-4 at epoch 120, 4.3e-5 at 180 (paper 2, section 4)."""
    config = ForceAnnealScheduleConfig()
    rates = {epoch: 0.006 * learning_rate_scale(config, 10**6, 2 * 10**6, epoch) for epoch in range(1, 181)}
    assert {rates[epoch] for epoch in range(1, 60)} == {0.006}
    assert rates[60] == pytest.approx(0.006 * 0.96)
    assert rates[120] == pytest.approx(5.0e-4, rel=0.01)
    assert rates[180] == pytest.approx(4.3e-5, rel=0.01)
    decay = torch.optim.lr_scheduler.ExponentialLR(sgd := torch.optim.SGD([torch.zeros(1)], lr=0.006), gamma=0.96)
    for epoch in range(60, 181):
        sgd.step()
        decay.step()
        assert rates[epoch] == pytest.approx(decay.get_last_lr()[0])


def test_force_anneal_warms_up_by_steps_and_anneals_by_epochs() -> None:
    config = ForceAnnealScheduleConfig(warmup_steps=100, anneal_epoch=2, factor=0.5)
    points = {(0, 1): 0.01, (49, 1): 0.5, (99, 1): 1.0, (5000, 1): 1.0, (49, 2): 0.25, (99, 2): 0.5, (100, 4): 0.125}
    for (step, epoch), expected in points.items():
        assert learning_rate_scale(config, step, 10_000, epoch) == pytest.approx(expected)
    assert learning_rate_scale(ForceAnnealScheduleConfig(anneal_epoch=1, factor=0.5), 0, 10, 1) == 0.5


@pytest.mark.parametrize("step", [0, 1, 250, 499, 500, 7500, 100_000])
@pytest.mark.parametrize("epoch", [1, 2, 5, 60])
def test_eden_is_the_original_formula(step: int, epoch: int) -> None:
    """((b^2 + B^2) / B^2)^-1/4 ((e^2 + E^2) / E^2)^-1/4, warmed up from one half over 500 steps (Yao et al. 2023)."""
    steps, epochs, done = 7500.0, 3.5, epoch - 1
    original = ((step**2 + steps**2) / steps**2 * (done**2 + epochs**2) / epochs**2) ** -0.25
    expected = original * min(1.0, 0.5 + 0.5 * step / 500)
    assert learning_rate_scale(EdenScheduleConfig(), step, 200_000, epoch) == pytest.approx(expected)


def test_eden_by_hand() -> None:
    config = EdenScheduleConfig(steps=100.0, epochs=2.0, warmup_steps=10, warmup_start=0.2)
    points = {(0, 1): 0.2, (5, 1): 0.6, (10, 1): 1.0, (100, 1): 2**-0.25, (100, 3): 2**-0.5}
    for (step, epoch), expected in points.items():
        assert learning_rate_scale(config, step, 1000, epoch) == pytest.approx(expected, rel=5e-3)
    assert learning_rate_scale(EdenScheduleConfig(warmup_steps=0), 0, 1000, 1) == 1.0


def test_piecewise_lines_are_numpys() -> None:
    """The one-cycle schedule of paper 4: 4e-6 to 4e-4 over 110 of 250 parts, to 4e-5 over 110, to 1e-8 over 30."""
    points = [(0.0, 0.01), (110 / 250, 1.0), (220 / 250, 0.1), (1.0, 2.5e-5)]
    config = PiecewiseScheduleConfig(points=points)
    steps = np.arange(500)
    want = np.interp((steps + 0.5) / 500, *zip(*points, strict=True))
    assert [learning_rate_scale(config, int(step), 500, 1) for step in steps] == pytest.approx(want.tolist())


def test_piecewise_jumps_and_ends() -> None:
    config = PiecewiseScheduleConfig(points=[(0.0, 0.5), (0.5, 1.0), (0.5, 0.2), (1.0, 0.2)])
    found = [learning_rate_scale(config, step, 4, 1, stride=0.0) for step in range(5)]
    assert found == pytest.approx([0.5, 0.75, 0.2, 0.2, 0.2])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.schedule={kind: piecewise}", "training.schedule.points: this key is needed"),
        ("training.schedule={kind: piecewise, points: [[0, 1], [0.5, 1]]}", "training.schedule.points: needs pairs"),
        ("training.schedule={kind: piecewise, points: [[0, 1], [0.6, 1], [0.5, 1], [1, 0]]}", "points: needs pairs"),
        ("training.schedule={kind: piecewise, points: [[0, 0], [1, 0]]}", "points: needs a fraction of the peak"),
        ("training.schedule={kind: piecewise, points: [[0, 2], [1, 0]]}", "training.schedule.points.0.1: must be at"),
        ("training.spec_augment={num_freq_masks: 3, max_freq_masks: 2}", "max_freq_masks: must be at least num_freq"),
        ("training.schedule={kind: eden, epochs: 0}", "training.schedule.epochs: must be above 0, got 0"),
        ("training.schedule={kind: eden, warmup_start: 2}", "training.schedule.warmup_start: must be at least 0"),
        ("training.schedule={kind: force_anneal, factor: 1.5}", "training.schedule.factor: must be above 0 and"),
        ("training.schedule={kind: force_anneal, anneal_epoch: 0}", "training.schedule.anneal_epoch: must be at least"),
        ("training.schedule={kind: force_anneal, hold: 0.1}", "training.schedule.hold: unknown key"),
        ("training.schedule={kind: step}", "training.schedule.kind: must be one of"),
        ("training.optimizer={kind: scaled_adam, weight_decay: 0.1}", "training.optimizer.weight_decay: unknown key"),
        ("training.optimizer={kind: scaled_adam, rms_min: 4}", "training.optimizer.rms_min: must not exceed rms_max"),
        (
            "training.optimizer={kind: scaled_adam, betas: [0.9, 1.0]}",
            "training.optimizer.betas.1: must be at least 0 and below 1",
        ),
        ("training.optimizer={kind: scaled_adam, clip_scale: 0}", "training.optimizer.clip_scale: must be above 0"),
        ("training.optimizer={kind: adamw, eps: 0}", "training.optimizer.eps: must be above 0, got 0"),
        ("training.optimizer={kind: sgd}", "training.optimizer.kind: must be one of 'adamw', 'scaled_adam', got 'sgd'"),
    ],
)
def test_impossible_settings_name_their_key(tmp_path: Path, override: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("name: x\ndata: {corpus: an4}\n")
    with pytest.raises(UserError) as caught:
        load_config(path, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
