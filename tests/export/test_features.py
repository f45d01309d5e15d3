"""The features file in onnxruntime against lhotse, kaldi-native-fbank and float64, at the edges and in silence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import Fbank, FbankConfig

from slimasr.data.features.frames import SILENCE, extract_frames
from slimasr.data.features.shards import make_extractor
from slimasr.export.features import features_model

onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
SPEECH = make_extractor(80, 16000).config
RECIPES = [(8000, 40), (11025, 23), (16000, 80), (44100, 80)]


class Features:
    """A features file in onnxruntime."""

    def __init__(self, config: FbankConfig) -> None:
        model = features_model(config)
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        (found,) = self.session.run(["features"], {"samples": samples[np.newaxis]})
        assert found.shape[0] == 1
        return found[0]


@cache
def speech_features() -> Features:
    return Features(SPEECH)


def noise(num_samples: int, level: float = 0.1, seed: int = 0) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


def in_float64(samples: np.ndarray, config: FbankConfig = SPEECH) -> np.ndarray:
    bank = Fbank(config).extractor.double()
    return bank(torch.from_numpy(samples[np.newaxis]).double())[0].numpy()


def of_kaldi(samples: np.ndarray, frame_length: float = 0.025) -> np.ndarray:
    """What sherpa-onnx computes."""
    knf = pytest.importorskip("kaldi_native_fbank", reason="kaldi-native-fbank is not installed")
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = False
    options.frame_opts.frame_length_ms = 1000 * frame_length
    options.mel_opts.num_bins = 80
    options.mel_opts.high_freq = -400
    bank = knf.OnlineFbank(options)
    bank.accept_waveform(16000, samples.tolist())
    bank.input_finished()
    return np.stack([bank.get_frame(i) for i in range(bank.num_frames_ready)])


@pytest.mark.parametrize(("rate", "bins"), RECIPES)
def test_features_of_any_rate_and_length_are_lhotses(rate: int, bins: int) -> None:
    extractor = make_extractor(bins, rate)
    features = Features(extractor.config)
    shift = rate // 100
    # Around one frame and around the first window, where frames begin and edges meet; then longer ones.
    for length in (0, 1, shift - 1, shift, shift + 1, 3 * shift // 2 - 1, 3 * shift // 2, 5 * shift + 2, rate + 123):
        samples = noise(length)
        expected = extract_frames(extractor, samples[np.newaxis], rate)
        found = features(samples)
        assert found.dtype == np.float32
        assert found.shape == expected.shape, length
        np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"remove_dc_offset": False},
        {"preemph_coeff": 0.0},
        {"window_type": "hamming", "frame_length": 0.032, "frame_shift": 0.008},
        {"round_to_power_of_two": False, "low_freq": 0.0, "high_freq": 0.0},
        {"torchaudio_compatible_mel_scale": False, "norm_filters": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_settings_of_lhotse(change: dict[str, float]) -> None:
    config = replace(SPEECH, **change)
    samples = noise(4000) + np.float32(0.05)
    np.testing.assert_allclose(Features(config)(samples), Fbank(config).extract(samples, 16000), atol=5e-4)


def test_audio_shorter_than_its_mirror_image_is_mirrored_again() -> None:
    """Kaldi mirrors as often as it takes; lhotse would read beyond the audio."""
    config = replace(SPEECH, frame_length=0.1)
    features = Features(config)
    for length in (160, 200, 700, 1000):
        samples = noise(length)
        expected = of_kaldi(samples, config.frame_length)
        found = features(samples)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_silence_has_the_floor_of_lhotse() -> None:
    for level in (0.0, 0.5):  # digital silence, and a constant offset
        assert np.array_equal(
            speech_features()(np.full(8000, level, np.float32)), np.full((50, 80), np.float32(SILENCE))
        )
    samples = noise(16000)
    samples[4000:12000] = 0.0
    found = speech_features()(samples)
    assert np.array_equal(found, np.maximum(found, np.float32(SILENCE)))
    np.testing.assert_allclose(found, make_extractor(80, 16000).extract(samples[np.newaxis], 16000), atol=2e-4)


def test_quiet_speech_on_a_large_offset_keeps_its_features() -> None:
    """The mean of a frame is part of the filters, whose sums in float32 lose what is small beside it."""
    samples = noise(16000, level=0.001) + np.float32(0.5)
    assert np.abs(speech_features()(samples) - in_float64(samples)).max() < 2e-3


def test_real_speech_has_the_features_of_lhotse_and_of_sherpa_onnx(corpus: Callable[[str], Path]) -> None:
    paths = sorted((corpus("an4") / "wav/an4test_clstk").glob("*/*.flac"))
    assert paths
    for path in paths[::10]:
        samples, _ = soundfile.read(path, dtype="float32")
        found = speech_features()(samples)
        np.testing.assert_allclose(found, in_float64(samples), atol=3e-4)
        np.testing.assert_allclose(found, of_kaldi(samples), atol=2e-3)


def test_the_file_is_small_and_old_runtimes_read_it() -> None:
    model = features_model(SPEECH)
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert model.ir_version == 8
    assert len(model.graph.node) <= 32
    assert model.ByteSize() < 900_000
    assert {constant.data_type for constant in model.graph.initializer} == {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.INT64,
    }


@pytest.mark.filterwarnings("ignore:`snip_edges`")
@pytest.mark.parametrize("change", [{"dither": 1.0}, {"snip_edges": True}, {"use_energy": True}, {"use_fft_mag": True}])
def test_settings_that_the_file_cannot_compute_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="mirrored edges"):
        features_model(replace(SPEECH, **change))
