"""Reads audio files of any format, sampling rate, length and number of channels in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np

from slimasr.data.audio.file import BLOCK_SAMPLES
from slimasr.data.features.frames import FRAME_SHIFT
from slimasr.decoding.streaming.sources import AudioSource, file_source
from slimasr.decoding.transcription.cutting import Excerpt, cut_at_pauses


@dataclass(frozen=True)
class Piece:
    """A piece of a recording, and perhaps audio around it with which it is recognised.

    Attributes:
        samples: (num_samples,) float32 in [-1, 1], mono.
        start: of the piece, in seconds from the start of the recording.
        seconds: length of the piece; the pieces of a recording follow each other without gaps.
        before: seconds of the samples that lie before the piece; None = they are those of the piece alone.
    """

    samples: np.ndarray
    start: float
    seconds: float
    before: float | None = None


def read_pieces(
    path: Path, sampling_rate: int, max_seconds: float, step_seconds: float = FRAME_SHIFT
) -> Iterator[np.ndarray]:
    """Read the mono samples of a file in pieces, which follow each other without gaps; see `source_pieces`.

    Args:
        path: a file of any format that libsndfile reads (wav, flac, ogg, mp3, NIST SPHERE, ...); channels are averaged.
        sampling_rate: rate of the result in Hz; files of other rates are resampled.
        max_seconds: length of the longest piece.
        step_seconds: see `source_pieces`.

    Yields:
        (num_samples,) float32 in [-1, 1].

    Raises:
        UserError: the file is missing, unreadable, truncated or empty, or its samples are not finite or far outside
            [-1, 1].
    """
    with file_source(path) as source:
        for excerpt in _excerpts(source, max_seconds, step_seconds):
            yield _resample(excerpt.piece, source.sampling_rate, sampling_rate)


def source_pieces(
    source: AudioSource, sampling_rate: int, max_seconds: float, step_seconds: float = FRAME_SHIFT
) -> Iterator[Piece]:
    """Read a source until it ends, in pieces of at most ``max_seconds`` that are cut where speech pauses.

    Args:
        source: the audio.
        sampling_rate: rate of the result in Hz; audio of other rates is resampled.
        max_seconds: length of the longest piece, without the audio around it (see `cutting`).
        step_seconds: pieces start at multiples of this; that of encoder frames.

    Raises:
        UserError: the source holds no samples or damaged ones.
    """
    rate = source.sampling_rate
    position = 0
    for excerpt in _excerpts(source, max_seconds, step_seconds):
        length = len(excerpt.piece)
        samples = _resample(excerpt.samples, rate, sampling_rate)
        before = excerpt.before / rate if excerpt.before or excerpt.after else None
        yield Piece(samples, position / rate, length / rate, before)
        position += length


def _excerpts(source: AudioSource, max_seconds: float, step_seconds: float = FRAME_SHIFT) -> Iterator[Excerpt]:
    """Read a source to its end."""
    blocks = source.pieces(BLOCK_SAMPLES / source.sampling_rate, lambda: False)
    yield from cut_at_pauses(blocks, source.sampling_rate, max_seconds, step_seconds)


def _resample(samples: np.ndarray, source: int, target: int) -> np.ndarray:
    if source == target:
        return samples
    # Imported here, because it takes longer than the rest of a short transcription at the model's own rate.
    from scipy.signal import resample_poly

    # resample_poly designs a filter whose length grows with these factors.
    common = gcd(source, target)
    resampled: np.ndarray = resample_poly(samples, target // common, source // common)
    return resampled.astype(np.float32, copy=False)
