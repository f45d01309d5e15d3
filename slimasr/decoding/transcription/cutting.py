"""Divides long recordings into pieces that a model recognises at once.

Speech is best cut in long pauses, as between sentences: models are trained on utterances with a silence at both ends.
Without a pause that is long enough, a piece is cut at its quietest place and recognised together with the audio around
it, so that a word at the cut is recognised with its surroundings. It belongs to the piece in which it starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

LONG_PAUSE_SECONDS = 0.4
"""The shortest pause after which speech is taken to be independent of what was before."""

CONTEXT_SECONDS = 1.0
"""Audio on the other side of a cut that is recognised with a piece, unless the cut is in a long pause."""

EARLIEST_SHARE = 1 / 12
"""A piece is at least this share of the longest one, so that not every pause separates pieces."""

_HOPS_PER_SECOND = 100
_QUIET_HOPS = 20
"""Hops in the 0.2 s whose energy decides where to cut without a long pause."""
_SMOOTHED_HOPS = 10
_AROUND_HOPS = 200
"""Hops on both sides with which a hop is compared: speakers and microphones differ in level."""
_QUIET_DB = 20.0
"""It is quiet so far below the highest level around."""
_QUIET_SHARE = 0.3
"""It is also quiet at this share of the way from the lowest to the highest level around, as in noise."""
_RANGE_DB = 10.0
"""If levels differ by less, there is no pause, or no speech."""


@dataclass(frozen=True)
class Excerpt:
    """Samples that are recognised at once: a piece of a recording, and perhaps audio around it.

    Attributes:
        samples: (T,) mono samples.
        before: number of samples before the piece.
        after: number of samples after the piece.
    """

    samples: np.ndarray
    before: int = 0
    after: int = 0

    @property
    def piece(self) -> np.ndarray:
        """The samples of the piece alone."""
        return self.samples[self.before : len(self.samples) - self.after]


@dataclass(frozen=True)
class CutPoint:
    """Where to cut: an index of samples, and whether this is in a long pause."""

    place: int
    in_long_pause: bool


def cut_at_pauses(
    blocks: Iterable[np.ndarray], sampling_rate: int, max_seconds: float, step_seconds: float = 0.01
) -> Iterator[Excerpt]:
    """Divide samples into pieces, which follow each other without gaps. Memory is bounded by a few blocks and pieces.

    Args:
        blocks: (T,) samples in blocks of any length.
        sampling_rate: in Hz.
        max_seconds: length of the longest piece.
        step_seconds: the lengths of pieces and of the audio around them are multiples of this, except at the end.
            If it is the distance of encoder frames, a word at a cut starts in the same frame for both pieces.
    """
    step = max(1, round(step_seconds * sampling_rate))
    longest = max(1, round(max_seconds * sampling_rate) // step) * step
    around = round(min(CONTEXT_SECONDS, max_seconds / 4) * sampling_rate) // step * step
    # What was read and is still needed; the first samples belong to the context of the next piece.
    kept = np.zeros(0, dtype=np.float32)
    before = 0
    for block in blocks:
        kept = np.concatenate([kept, block])
        while len(kept) - before > longest + around:
            excerpt, kept, before = _first(kept, before, longest, around, sampling_rate, step)
            yield excerpt
    while len(kept) - before > longest:
        excerpt, kept, before = _first(kept, before, longest, around, sampling_rate, step)
        yield excerpt
    yield Excerpt(kept, before)


def _first(
    samples: np.ndarray, before: int, longest: int, around: int, sampling_rate: int, step: int
) -> tuple[Excerpt, np.ndarray, int]:
    """Take the first piece off samples.

    Returns:
        The piece, the samples that are needed further on, and how many of these lie before the next piece.
    """
    cut = best_cut(samples[before : before + longest], sampling_rate)
    place = before + max(1, cut.place // step) * step
    after = 0 if cut.in_long_pause else min(around, len(samples) - place)
    needed = 0 if cut.in_long_pause else min(around, place)
    return Excerpt(samples[: place + after], before, after), samples[place - needed :], needed


def best_cut(samples: np.ndarray, sampling_rate: int) -> CutPoint:
    """Return where (T,) samples, as many as a piece may have, are cut: in the first long pause if there is one."""
    for start, end in pauses(samples, sampling_rate):
        place = start + quietest_place(samples[start:end], sampling_rate)
        if end - start >= LONG_PAUSE_SECONDS * sampling_rate and place >= EARLIEST_SHARE * len(samples):
            return CutPoint(place, in_long_pause=True)
    return CutPoint(quietest_cut(samples, sampling_rate), in_long_pause=False)


def pauses(samples: np.ndarray, sampling_rate: int) -> list[tuple[int, int]]:
    """Find the pauses of (T,) samples: first index of each and the one after it.

    It is quiet where the level is far below the highest one of the seconds around, or, if noise does not allow that,
    close to the lowest one there.
    """
    energies = _energies(samples, sampling_rate)
    if len(energies) < _SMOOTHED_HOPS:
        return []
    # (hops,) in dB
    levels = 10 * np.log10(np.convolve(energies, np.ones(_SMOOTHED_HOPS) / _SMOOTHED_HOPS, mode="same") + 1e-10)
    around = sliding_window_view(np.pad(levels, _AROUND_HOPS, mode="edge"), 2 * _AROUND_HOPS + 1)
    lowest, highest = around.min(axis=1), around.max(axis=1)
    limit = np.maximum(lowest + _QUIET_SHARE * (highest - lowest), highest - _QUIET_DB)
    quiet = (levels <= limit) & (highest - lowest >= _RANGE_DB)
    # Where it becomes quiet, and where it ends to be so, in turns.
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]])))
    hop = _hop(sampling_rate)
    return [(int(start) * hop, int(end) * hop) for start, end in list(pairwise(edges))[::2]]


def quietest_cut(samples: np.ndarray, sampling_rate: int) -> int:
    """Return the index of the middle of the quietest 0.2 s of the second half of (T,) samples."""
    start = len(samples) // 2
    return start + quietest_place(samples[start:], sampling_rate)


def quietest_place(samples: np.ndarray, sampling_rate: int) -> int:
    """Return the index of the middle of the quietest 0.2 s of (T,) samples, or of all if they are shorter."""
    energies = _energies(samples, sampling_rate)
    window = min(_QUIET_HOPS, len(energies))
    # Energy of every window of 0.2 s.
    smoothed = np.convolve(energies, np.ones(window), mode="valid")
    return (int(smoothed.argmin()) + window // 2) * _hop(sampling_rate)


def _energies(samples: np.ndarray, sampling_rate: int) -> np.ndarray:
    """(T,) samples -> (hops,) mean energy of every 10 ms; samples after the last whole hop are ignored."""
    hop = _hop(sampling_rate)
    whole = len(samples) // hop
    energies: np.ndarray = np.square(samples[: whole * hop].reshape(whole, hop), dtype=np.float64).mean(axis=1)
    return energies


def _hop(sampling_rate: int) -> int:
    return max(1, sampling_rate // _HOPS_PER_SECOND)
