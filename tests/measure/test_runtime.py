"""Time and memory of stand-alone models, measured in real processes."""

from __future__ import annotations

import pytest
import torch

from slimasr.config.model import JoinerConfig
from slimasr.errors import UserError
from slimasr.measure.runtime import RuntimeMeter, noise_features
from slimasr.models.build import build_model
from tests.tiny import MODEL

WEIGHTS = 4 * 2000 * 4000
"""Bytes of the joiner's output layer below."""


def test_peak_memory_holds_the_weights_once_and_the_logits_of_a_frame() -> None:
    torch.manual_seed(0)
    config = MODEL.model_copy(update={"joiner": JoinerConfig(dim=2000)})
    model = build_model(config, None, 4000, (1.0,)).eval()
    measured = RuntimeMeter().measure(model, noise_features(model, 0.5), repeats=3)
    assert WEIGHTS <= measured.peak_memory <= 1.9 * WEIGHTS
    assert 0 < measured.rtf <= measured.rtf_p90


def test_every_model_is_measured_in_memory_of_its_own_even_after_a_failure() -> None:
    torch.manual_seed(0)
    small = build_model(MODEL, None, 9, (1.0,)).eval()
    config = MODEL.model_copy(update={"joiner": JoinerConfig(dim=2000)})
    large = build_model(config, None, 4000, (1.0,)).eval()
    meter = RuntimeMeter()
    features = noise_features(small, 0.5)
    before = meter.measure(small, features, repeats=1).peak_memory
    assert meter.measure(large, features, repeats=1).peak_memory >= WEIGHTS
    with pytest.raises(UserError, match="RTF could not be measured: RuntimeError: .*size"):
        meter.measure(small, features[:, :7], repeats=1)
    assert abs(meter.measure(small, features, repeats=1).peak_memory - before) < WEIGHTS / 4


def test_a_process_that_is_killed_is_reported() -> None:
    model = build_model(MODEL, None, 9, (1.0,)).eval()
    meter = RuntimeMeter()
    meter._process.kill()
    with pytest.raises(UserError, match="RTF could not be measured: exit status -9"):
        meter.measure(model, noise_features(model, 0.5))


def test_noise_has_the_statistics_of_the_features() -> None:
    model = build_model(MODEL, None, 9, (1.0,))
    mean, std = torch.linspace(-10, 5, 20), torch.linspace(0.5, 4, 20)
    model.set_feature_stats(mean, std)
    noise = noise_features(model, 100.0)
    assert noise.shape == (10_000, 20)
    assert torch.allclose(noise.mean(dim=0), mean, atol=0.2)
    assert torch.allclose(noise.std(dim=0), std, rtol=0.05)
