"""Feature frames of short audio: when there are none, and how many a front end needs for its first output.

Stored features, on-the-fly features and transcription share these rules, so that a short file is recognised as the same
text everywhere, alone or in a batch.
"""

from __future__ import annotations

import math

import numpy as np
from lhotse import Fbank

FRAME_SHIFT = 0.01
SILENCE = math.log(np.finfo(np.float32).eps)
"""The value of every mel bin in digital silence, the floor of lhotse's filter banks."""
# Durations in manifests are rounded.
_ROUNDING = 1e-6


def has_frame(seconds: float) -> bool:
    """Whether audio of this length holds a feature frame: it is at least as long as one frame shift."""
    return seconds >= FRAME_SHIFT - _ROUNDING


def feature_frames(seconds: float) -> int:
    """Number of frames of audio (edges are not snipped: rounded, halves up); 0 if `has_frame` is false."""
    if not has_frame(seconds):
        return 0
    # Python's round() would round halves to even numbers, lhotse does not.
    return int(seconds / FRAME_SHIFT + 0.5)


def extract_frames(
    extractor: Fbank, samples: np.ndarray, sampling_rate: int, seconds: float | None = None
) -> np.ndarray:
    """Compute (T, F) float32 log-mel features of (1, num_samples) audio; T = 0 if `has_frame` is false.

    lhotse's extractor fails on such short audio.

    Args:
        seconds: duration given by a manifest, which all stages use; the default is that of the samples.
    """
    if not has_frame(samples.shape[1] / sampling_rate if seconds is None else seconds):
        return no_frames(extractor.feature_dim(sampling_rate))
    features: np.ndarray = extractor.extract(samples, sampling_rate)
    return features


def no_frames(num_mel_bins: int) -> np.ndarray:
    """(0, F): the features of audio without a frame."""
    return np.zeros((0, num_mel_bins), dtype=np.float32)


def pad_with_silence(features: np.ndarray, min_frames: int) -> np.ndarray:
    """Append silence to (T, F) features that have fewer than ``min_frames`` frames."""
    missing = min_frames - len(features)
    return features if missing <= 0 else np.pad(features, ((0, missing), (0, 0)), constant_values=SILENCE)
