"""Cut an utterance that is too long for a model at its pauses, which are found in its features.

Transcription cuts samples (`slimasr.decoding.transcription.cutting`), because it reads a file block by block. Here the
audio may be missing, because features may have been stored. On-the-fly features are rounded like stored ones before the
search for pauses, so that both have the same pieces.
"""

from __future__ import annotations

import lilcom
import numpy as np
from lhotse.features.io import CHUNKY_FORMAT_CHUNK_SIZE

from slimasr.config.data import DataConfig
from slimasr.data.features.frames import feature_frames

LONGEST_WINDOW_SECONDS = 30.0
PAUSE_FRAMES = 20
# The precision of lhotse's `LilcomChunkyWriter`, with which stage 2 writes features.
TICK_POWER = -5


def window_seconds(config: DataConfig) -> float:
    """The longest piece in seconds: the longest training utterance, and 30 s at most."""
    return min(LONGEST_WINDOW_SECONDS, config.max_cut_seconds)


def whole_seconds(config: DataConfig) -> float:
    """The longest dev or test utterance in seconds that is recognised as a whole.

    It is twice the window, so that the longest utterances of common test sets (35 s in LibriSpeech) stay whole.
    """
    return 2.0 * window_seconds(config)


def window_frames(seconds: float, min_frames: int) -> int:
    """The same in feature frames, and long enough for two pieces that the front end accepts."""
    return max(feature_frames(seconds), 2 * min_frames)


def cut_at_pauses(features: np.ndarray, max_frames: int, min_frames: int) -> tuple[int, ...]:
    """Lengths in frames of the pieces of (T, F) log-mel features, each at most ``max_frames``; their sum is T.

    A piece that is not the last one ends in the middle of the quietest 0.2 s of the second half of the window, as in
    `slimasr.decoding.transcription.cutting.quietest_cut`; the energy of a frame is the sum over its mel bins.

    Args:
        min_frames: smallest length of a piece, unless T itself is smaller.
    """
    lengths = []
    left = features
    while len(left) > max_frames:
        # The rest must be long enough for the front end, too.
        length = min(_quietest_cut(left[:max_frames]), len(left) - min_frames)
        lengths.append(length)
        left = left[length:]
    return (*lengths, len(left))


def rounded_as_stored(features: np.ndarray) -> np.ndarray:
    """(T, F) features, rounded as they are in stage 2's files."""
    # lilcom's rounding depends on the whole chunk, so chunks have to start where the writer starts them.
    starts = range(0, len(features), CHUNKY_FORMAT_CHUNK_SIZE)
    # A copy, because compression overwrites its argument.
    chunks = (features[start : start + CHUNKY_FORMAT_CHUNK_SIZE].copy() for start in starts)
    return np.concatenate([lilcom.decompress(lilcom.compress(chunk, tick_power=TICK_POWER)) for chunk in chunks])


def _quietest_cut(features: np.ndarray) -> int:
    # The first half is never cut, so that pieces do not become short.
    start = len(features) // 2
    # Features are logarithms of energies; in float64, quiet frames beside loud ones are not rounded away.
    energies = np.exp(features[start:].astype(np.float64)).sum(axis=1)
    window = min(PAUSE_FRAMES, len(energies))
    # Element i is the energy of the window that starts at frame i; the cut is in the middle of that window.
    smoothed = np.convolve(energies, np.ones(window), mode="valid")
    return start + int(smoothed.argmin()) + window // 2
