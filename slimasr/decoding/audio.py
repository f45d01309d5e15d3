"""Audio files of any format, sampling rate, length and number of channels, read in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from slimasr.errors import UserError

_HOPS_PER_SECOND = 100
_PAUSE_HOPS = 20


def read_pieces(path: Path, sampling_rate: int, max_seconds: float) -> Iterator[np.ndarray]:
    """Mono samples of a file in pieces of at most ``max_seconds``, cut where speech pauses.

    A piece that is not the last ends in the middle of the quietest 0.2 s of the second half of what was read
    ahead, so that words stay whole where there is any pause. Only one piece is in memory at a time.

    Args:
      path: anything that libsndfile reads (wav, flac, ogg, mp3, NIST SPHERE, ...); channels are averaged.
      sampling_rate: of the samples given; other rates are resampled.
      max_seconds: longest piece.

    Yields:
      (num_samples,) float32 in [-1, 1].

    Raises:
      UserError: missing, unreadable, truncated or empty file, or samples that are not finite.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such audio file")
    try:
        with soundfile.SoundFile(path) as file:
            yield from (
                _resample(piece, file.samplerate, sampling_rate)
                for piece in _cut_at_pauses(file, path, round(max_seconds * file.samplerate))
            )
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path}: is not a readable audio file ({error.error_string.rstrip('.')})") from None


def quietest_cut(samples: np.ndarray, sampling_rate: int) -> int:
    """Where to cut (T,) samples: the middle of the quietest 0.2 s of their second half."""
    hop = max(1, sampling_rate // _HOPS_PER_SECOND)
    start = len(samples) // 2
    num_hops = (len(samples) - start) // hop
    hops = samples[start : start + num_hops * hop].reshape(num_hops, hop)
    energies = np.square(hops, dtype=np.float64).mean(1)
    window = min(_PAUSE_HOPS, num_hops)
    smoothed = np.convolve(energies, np.ones(window), mode="valid")
    return start + (int(smoothed.argmin()) + window // 2) * hop


def _cut_at_pauses(file: soundfile.SoundFile, path: Path, max_samples: int) -> Iterator[np.ndarray]:
    """Pieces at the file's own rate."""
    kept = np.zeros(0, dtype=np.float32)
    num_read = 0
    while True:
        block = _read_mono(file, path, max_samples - len(kept))
        num_read += len(block)
        samples = np.concatenate([kept, block])
        if len(samples) < max_samples or num_read == file.frames:
            break
        cut = quietest_cut(samples, file.samplerate)
        yield samples[:cut]
        kept = samples[cut:]
    if not num_read:
        raise UserError(f"{path}: holds no samples")
    # The header of a compressed stream may only estimate how long it is.
    if num_read < file.frames and file.format in ("WAV", "FLAC", "NIST"):
        raise UserError(f"{path}: is truncated: {num_read} of {file.frames} samples can be read")
    yield samples


def _read_mono(file: soundfile.SoundFile, path: Path, num_samples: int) -> np.ndarray:
    block: np.ndarray = file.read(num_samples, dtype="float32", always_2d=True).mean(axis=1)
    if not np.isfinite(block).all():
        raise UserError(f"{path}: holds samples that are not finite")
    return block


def _resample(samples: np.ndarray, source: int, target: int) -> np.ndarray:
    if source == target:
        return samples
    common = gcd(source, target)
    resampled: np.ndarray = resample_poly(samples, target // common, source // common)
    return resampled.astype(np.float32, copy=False)
