"""Resampling and features of audio in pieces, against scipy and lhotse on the whole."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd

import numpy as np
import pytest
from scipy.signal import resample_poly

from slimasr.data.audio.resampling import StreamResampler
from slimasr.data.features.frames import extract_frames
from slimasr.data.features.shards import make_extractor
from slimasr.data.features.stream import FeatureStream
from slimasr.errors import UserError


def pieces(samples: np.ndarray, longest: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(longest)
    start = 0
    while start < len(samples):
        length = int(rng.integers(0, longest + 1))
        yield samples[start : start + length]
        start += length


@pytest.mark.parametrize(("source", "target"), [(44100, 16000), (8000, 16000), (48000, 16000), (16000, 44100), (7, 5)])
def test_resampled_pieces_equal_the_resampled_whole(source: int, target: int) -> None:
    rng = np.random.default_rng(0)
    common = gcd(source, target)
    for length in (0, 1, 2, 57, 1000, 9001):
        samples = rng.standard_normal(length).astype(np.float32)
        for longest in (50, 900, 20_000):
            resampler = StreamResampler(source, target)
            parts = [resampler.accept(piece) for piece in pieces(samples, longest)]
            found = np.concatenate([*parts, resampler.finish()])
            expected = resample_poly(samples, target // common, source // common) if length else samples
            np.testing.assert_allclose(found, expected, atol=1e-6)
            assert found.dtype == np.float32


def test_samples_wait_no_longer_than_the_filter() -> None:
    resampler = StreamResampler(44100, 16000)
    assert len(resampler.accept(np.zeros(44100, np.float32))) >= 16000 - 11


def test_the_models_own_rate_is_left_alone() -> None:
    samples = np.random.default_rng(1).standard_normal(100).astype(np.float32)
    resampler = StreamResampler(16000, 16000)
    np.testing.assert_array_equal(resampler.accept(samples), samples)
    assert not len(resampler.finish())


@pytest.mark.parametrize("rate", [16000, 8000])
def test_features_of_pieces_equal_those_of_the_whole(rate: int) -> None:
    extractor = make_extractor(40, rate)
    rng = np.random.default_rng(2)
    # Around every length at which the number of frames or the kind of the last one changes, and ordinary ones.
    edges = [160 * rate // 16000 * half // 2 + step for half in range(8) for step in (-1, 0, 1)]
    for length in (*(edge for edge in edges if edge >= 0), 400, 401, 5000, 16079, 16080):
        samples = (0.1 * rng.standard_normal(length)).astype(np.float32)
        expected = extract_frames(extractor, samples[np.newaxis], rate)
        for longest in (37, 401, 1600, 20_000):
            stream = FeatureStream(extractor, rate)
            parts = [stream.accept(piece, rate) for piece in pieces(samples, longest)]
            found = np.concatenate([*parts, stream.finish()])
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=1e-5)
            assert stream.num_frames == len(expected)


def test_frames_come_as_soon_as_their_windows_are_complete() -> None:
    """Frame t covers 25 ms around 10 t + 5 ms, so all but the last ones are there (no caller needs to add silence)."""
    extractor = make_extractor(40, 16000)
    stream = FeatureStream(extractor, 16000)
    samples = np.random.default_rng(3).standard_normal(16000).astype(np.float32)
    for end in range(160, 16001, 160):
        stream.accept(samples[end - 160 : end], 16000)
        assert stream.num_frames == max(0, (end - 280) // 160 + 1)
    assert len(stream.finish()) == 1


def test_a_rate_is_checked() -> None:
    stream = FeatureStream(make_extractor(40, 16000), 16000)
    for rate in (0, -8000, 0.5, True):
        with pytest.raises(UserError, match="a sampling rate is a whole number of Hz from 1000"):
            stream.accept(np.zeros(4, np.float32), rate)
    stream.accept(np.zeros(4, np.float32), 8000)
    with pytest.raises(UserError, match="8000 Hz cannot go on with 16000 Hz"):
        stream.accept(np.zeros(4, np.float32), 16000)
