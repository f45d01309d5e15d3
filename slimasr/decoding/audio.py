"""Reads audio files of any format, sampling rate, length and number of channels in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd
from pathlib import Path

import numpy as np

from slimasr.data.audio_file import AudioError, AudioFile, open_audio
from slimasr.errors import UserError

_HOPS_PER_SECOND = 100
_PAUSE_HOPS = 20
"""Hops in the 0.2 s whose energy decides where to cut."""


def read_pieces(path: Path, sampling_rate: int, max_seconds: float) -> Iterator[np.ndarray]:
    """Read the mono samples of a file in pieces of at most ``max_seconds``, cut where speech pauses.

    Every piece but the last ends in the middle of the quietest 0.2 s of the second half of what was read ahead, so that
    words stay whole if there is any pause. Only one piece is in memory at a time.

    Args:
        path: a file of any format that libsndfile reads (wav, flac, ogg, mp3, NIST SPHERE, ...); channels are averaged.
        sampling_rate: rate of the result in Hz; files of other rates are resampled.
        max_seconds: length of the longest piece.

    Yields:
        (num_samples,) float32 in [-1, 1].

    Raises:
        UserError: the file is missing, unreadable, truncated or empty, or its samples are not finite or far outside
            [-1, 1].
    """
    try:
        with open_audio(path) as file:
            for piece in _cut_at_pauses(file, round(max_seconds * file.sampling_rate)):
                yield _resample(piece, file.sampling_rate, sampling_rate)
    except AudioError as error:
        raise UserError(str(error)) from error


def quietest_cut(samples: np.ndarray, sampling_rate: int) -> int:
    """Return the index at which to cut (T,) samples: the middle of the quietest 0.2 s of their second half."""
    hop = max(1, sampling_rate // _HOPS_PER_SECOND)
    start = len(samples) // 2
    num_hops = (len(samples) - start) // hop
    # Samples after the last whole hop are ignored.
    hops = samples[start : start + num_hops * hop].reshape(num_hops, hop)
    energies = np.square(hops, dtype=np.float64).mean(1)
    window = min(_PAUSE_HOPS, num_hops)
    # Energy of every window of 0.2 s, or of the whole second half if that is shorter.
    smoothed = np.convolve(energies, np.ones(window), mode="valid")
    return start + (int(smoothed.argmin()) + window // 2) * hop


def _cut_at_pauses(file: AudioFile, max_samples: int) -> Iterator[np.ndarray]:
    """Yield pieces of (T,) samples at the file's own rate, cut where they are quietest."""
    # What was read after the last cut.
    kept = np.zeros(0, dtype=np.float32)
    num_read = 0
    while True:
        # (channels, T) -> (T,)
        block = file.read(max_samples - len(kept)).mean(axis=0)
        num_read += len(block)
        samples = np.concatenate([kept, block])
        # The file has ended, before the piece was full or exactly with it.
        if len(samples) < max_samples or num_read == file.num_samples:
            break
        cut = quietest_cut(samples, file.sampling_rate)
        yield samples[:cut]
        kept = samples[cut:]
    yield samples


def _resample(samples: np.ndarray, source: int, target: int) -> np.ndarray:
    if source == target:
        return samples
    # Imported here, because it takes longer than the rest of a short transcription at the model's own rate.
    from scipy.signal import resample_poly

    # resample_poly designs a filter whose length grows with these factors.
    common = gcd(source, target)
    resampled: np.ndarray = resample_poly(samples, target // common, source // common)
    return resampled.astype(np.float32, copy=False)
