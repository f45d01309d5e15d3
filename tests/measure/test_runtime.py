"""Time and memory of stand-alone models, measured in real processes."""

from __future__ import annotations

import torch

from slimasr.config.model import JoinerConfig
from slimasr.measure.runtime import measure_runtime, noise_features
from slimasr.models.build import build_model
from tests.tiny import MODEL

WEIGHTS = 4 * 2000 * 4000
"""Bytes of the joiner's output layer below."""


def test_peak_memory_holds_the_weights_once_and_the_logits_of_a_frame() -> None:
    torch.manual_seed(0)
    config = MODEL.model_copy(update={"joiner": JoinerConfig(dim=2000)})
    model = build_model(config, None, 4000, (1.0,)).eval()
    measured = measure_runtime(model, noise_features(model, 0.5), repeats=3)
    assert WEIGHTS <= measured.peak_memory <= 1.9 * WEIGHTS
    assert 0 < measured.rtf <= measured.rtf_p90


def test_noise_has_the_statistics_of_the_features() -> None:
    model = build_model(MODEL, None, 9, (1.0,))
    mean, std = torch.linspace(-10, 5, 20), torch.linspace(0.5, 4, 20)
    model.set_feature_stats(mean, std)
    noise = noise_features(model, 100.0)
    assert noise.shape == (10_000, 20)
    assert torch.allclose(noise.mean(dim=0), mean, atol=0.2)
    assert torch.allclose(noise.std(dim=0), std, rtol=0.05)
