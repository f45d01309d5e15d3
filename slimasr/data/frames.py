"""Feature frames of short audio: what holds none, and what a front end needs for its first output.

Stored features, features made on the fly and transcription share these rules, so that a short file gives the same text
wherever it is recognised, alone or in a batch.
"""

from __future__ import annotations

import math

import numpy as np
from lhotse import Fbank

FRAME_SHIFT = 0.01
SILENCE = math.log(np.finfo(np.float32).eps)
"""Every mel bin of digital silence: the floor of lhotse's filter banks."""
# Durations in manifests are rounded.
_ROUNDING = 1e-6


def has_frame(seconds: float) -> bool:
    """Whether audio of this length holds a feature frame: it lasts as long as one frame shift."""
    return seconds >= FRAME_SHIFT - _ROUNDING


def feature_frames(seconds: float) -> int:
    """Frames of audio (no edges snipped: rounded, halves up); 0 without `has_frame`."""
    return int(seconds / FRAME_SHIFT + 0.5) if has_frame(seconds) else 0


def extract_frames(
    extractor: Fbank, samples: np.ndarray, sampling_rate: int, seconds: float | None = None
) -> np.ndarray:
    """(T, F) float32 log-mel features of (1, num_samples) audio; T = 0 without `has_frame`, where lhotse would fail.

    Args:
        seconds: duration by a manifest, which all stages go by; default: that of the samples.
    """
    if not has_frame(samples.shape[1] / sampling_rate if seconds is None else seconds):
        return no_frames(extractor.feature_dim(sampling_rate))
    features: np.ndarray = extractor.extract(samples, sampling_rate)
    return features


def no_frames(num_mel_bins: int) -> np.ndarray:
    """(0, F): the features of audio without a frame."""
    return np.zeros((0, num_mel_bins), dtype=np.float32)


def pad_with_silence(features: np.ndarray, min_frames: int) -> np.ndarray:
    """(T, F) features, followed by silence where they are fewer than ``min_frames``."""
    missing = min_frames - len(features)
    return features if missing <= 0 else np.pad(features, ((0, missing), (0, 0)), constant_values=SILENCE)
