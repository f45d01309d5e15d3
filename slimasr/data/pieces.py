"""Where an utterance too long for a model is cut: at its pauses, found in its features.

Transcription cuts the same way, but in samples, as it reads a file bit by bit (`slimasr.decoding.audio`). Here audio
may not be at hand: features may have been stored. Features that are made on the fly are rounded as stored ones are
before pauses are looked for, so that both give the same pieces.
"""

from __future__ import annotations

import lilcom
import numpy as np
from lhotse.features.io import CHUNKY_FORMAT_CHUNK_SIZE

from slimasr.config.data import DataConfig
from slimasr.data.frames import feature_frames

LONGEST_WINDOW_SECONDS = 30.0
PAUSE_FRAMES = 20
# The accuracy of lhotse's `LilcomChunkyWriter`, which stage 2 writes with.
TICK_POWER = -5


def window_seconds(config: DataConfig) -> float:
    """The longest piece that audio is cut into: the longest training utterance, and 30 s at most."""
    return min(LONGEST_WINDOW_SECONDS, config.max_cut_seconds)


def whole_seconds(config: DataConfig) -> float:
    """The longest dev or test utterance that is recognised as a whole.

    It is twice the window, so that the longest utterances of common test sets (35 s in LibriSpeech) stay whole.
    """
    return 2.0 * window_seconds(config)


def window_frames(seconds: float, min_frames: int) -> int:
    """The same in feature frames, and long enough for two pieces that a front end can take."""
    return max(feature_frames(seconds), 2 * min_frames)


def cut_at_pauses(features: np.ndarray, max_frames: int, min_frames: int) -> tuple[int, ...]:
    """Lengths in frames of the pieces of (T, F) log-mel features, each at most ``max_frames``; they add up to T.

    A piece that is not the last ends in the middle of the quietest 0.2 s of the second half of the window, as in
    `slimasr.decoding.audio.quietest_cut`; the energy of a frame is the sum over its mel bins.

    Args:
        min_frames: no piece is shorter, where T is not.
    """
    lengths = []
    left = features
    while len(left) > max_frames:
        length = min(_quietest_cut(left[:max_frames]), len(left) - min_frames)
        lengths.append(length)
        left = left[length:]
    return (*lengths, len(left))


def rounded_as_stored(features: np.ndarray) -> np.ndarray:
    """(T, F) features as they come back from stage 2's files."""
    starts = range(0, len(features), CHUNKY_FORMAT_CHUNK_SIZE)
    # Copies, as compression writes into what it is given.
    chunks = (features[start : start + CHUNKY_FORMAT_CHUNK_SIZE].copy() for start in starts)
    return np.concatenate([lilcom.decompress(lilcom.compress(chunk, tick_power=TICK_POWER)) for chunk in chunks])


def _quietest_cut(features: np.ndarray) -> int:
    start = len(features) // 2
    energies = np.exp(features[start:].astype(np.float64)).sum(axis=1)
    window = min(PAUSE_FRAMES, len(energies))
    smoothed = np.convolve(energies, np.ones(window), mode="valid")
    return start + int(smoothed.argmin()) + window // 2
