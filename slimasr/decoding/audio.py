"""Reads audio files of any format, sampling rate, length and number of channels in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np

from slimasr.decoding.sources import AudioSource, file_source

_HOPS_PER_SECOND = 100
_PAUSE_HOPS = 20
"""Hops in the 0.2 s whose energy decides where to cut."""


@dataclass(frozen=True)
class Piece:
    """A piece of a recording.

    Attributes:
        samples: (num_samples,) float32 in [-1, 1], mono.
        start: in seconds from the start of the recording.
        seconds: its length; the pieces of a recording follow each other without gaps.
    """

    samples: np.ndarray
    start: float
    seconds: float


def read_pieces(path: Path, sampling_rate: int, max_seconds: float) -> Iterator[np.ndarray]:
    """Read the samples of a file in pieces; see `file_pieces`."""
    for piece in file_pieces(path, sampling_rate, max_seconds):
        yield piece.samples


def file_pieces(path: Path, sampling_rate: int, max_seconds: float) -> Iterator[Piece]:
    """Read the mono samples of a file in pieces of at most ``max_seconds``, cut where speech pauses.

    Every piece but the last ends in the middle of the quietest 0.2 s of the second half of what was read ahead, so that
    words stay whole if there is any pause. Only one piece is in memory at a time.

    Args:
        path: a file of any format that libsndfile reads (wav, flac, ogg, mp3, NIST SPHERE, ...); channels are averaged.
        sampling_rate: rate of the result in Hz; files of other rates are resampled.
        max_seconds: length of the longest piece.

    Raises:
        UserError: the file is missing, unreadable, truncated or empty, or its samples are not finite or far outside
            [-1, 1].
    """
    with file_source(path) as source:
        yield from source_pieces(source, sampling_rate, max_seconds)


def source_pieces(source: AudioSource, sampling_rate: int, max_seconds: float) -> Iterator[Piece]:
    """Read a source until it ends, in pieces as `file_pieces` does; raises as the source does."""
    blocks = source.pieces(max_seconds, _never)
    position = 0
    for samples in cut_at_pauses(blocks, source.sampling_rate, max_seconds):
        start, seconds = position / source.sampling_rate, len(samples) / source.sampling_rate
        yield Piece(_resample(samples, source.sampling_rate, sampling_rate), start, seconds)
        position += len(samples)


def cut_at_pauses(blocks: Iterable[np.ndarray], sampling_rate: int, max_seconds: float) -> Iterator[np.ndarray]:
    """Divide (T,) samples, which arrive in blocks of any length, into pieces of at most ``max_seconds``."""
    max_samples = round(max_seconds * sampling_rate)
    # What was read after the last cut.
    kept = np.zeros(0, dtype=np.float32)
    for block in blocks:
        kept = np.concatenate([kept, block])
        while len(kept) > max_samples:
            cut = quietest_cut(kept[:max_samples], sampling_rate)
            yield kept[:cut]
            kept = kept[cut:]
    yield kept


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


def _never() -> bool:
    """Nobody stops the reading of a whole recording."""
    return False


def _resample(samples: np.ndarray, source: int, target: int) -> np.ndarray:
    if source == target:
        return samples
    # Imported here, because it takes longer than the rest of a short transcription at the model's own rate.
    from scipy.signal import resample_poly

    # resample_poly designs a filter whose length grows with these factors.
    common = gcd(source, target)
    resampled: np.ndarray = resample_poly(samples, target // common, source // common)
    return resampled.astype(np.float32, copy=False)
