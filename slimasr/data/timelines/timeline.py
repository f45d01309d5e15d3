"""When the units of an utterance are spoken, and the ends and frame targets of any tokens that follow from it.

Times are in frames of 10 ms at natural speed, whatever model, tokenizer or speed they are used for later.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

WORD_BOUNDARY = "\u2581"
"""The unit in front of every word. It is SentencePiece's sign, so that tokens are sequences of units."""

SILENCE_UNIT = -1
"""Entry of `Timeline.units_at` for frames without a unit."""

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Timeline:
    """The times of the units of one utterance.

    Between two units there may be silence. A unit may have no frame at all; it then starts where it ends.

    Attributes:
        units: the units of the transcript, as `units_of` splits it.
        starts: (K,) int64, the first frame of each unit; empty for an utterance without an alignment.
        ends: (K,) int64, the frame behind the last one of each unit; empty for an utterance without an alignment.
        frames: number of frames of the utterance.
    """

    units: tuple[str, ...]
    starts: np.ndarray
    ends: np.ndarray
    frames: int

    @property
    def aligned(self) -> bool:
        """Whether the units have times; an utterance without units has no alignment either."""
        return len(self.starts) > 0

    def units_at(self, factor: int, num_frames: int, speed: float = 1.0) -> np.ndarray:
        """(T',) int64, the index of the unit that each encoder frame belongs to, `SILENCE_UNIT` if none.

        Encoder frame t belongs to what is spoken at feature frame ``factor * t + factor // 2``, the middle of the
        feature frames that it stands for.

        Args:
            factor: feature frames per encoder frame.
            num_frames: T', encoder frames of the utterance at ``speed``.
            speed: speed factor at which the utterance is heard.
        """
        middles = factor * np.arange(num_frames) + factor // 2
        # At another speed, times are divided by the factor: the frame is multiplied instead, which is exact at speed 1.
        natural = np.floor(middles * speed + _ROUNDING).astype(np.int64)
        # Features of very short utterances are padded, and those at other speeds may round to one frame more.
        natural = np.minimum(natural, max(self.frames - 1, 0))
        unit = np.searchsorted(self.ends, natural, side="right")
        starts = np.append(self.starts, self.frames)
        spoken = (unit < len(self.starts)) & (natural >= starts[unit])
        return np.where(spoken, unit, SILENCE_UNIT)

    def token_ends(self, counts: Sequence[int], factor: int, num_frames: int, speed: float = 1.0) -> np.ndarray:
        """(U,) int64, the encoder frame that holds the last feature frame of each token.

        Args:
            counts: number of units of each token.
            factor, num_frames, speed: see `units_at`.
        """
        last_units = np.cumsum(counts, dtype=np.int64) - 1
        # A token without units, such as a sentence mark, ends with the one before it.
        ends = np.where(last_units < 0, 0, self.ends[np.maximum(last_units, 0)])
        last_frames = np.ceil(ends / speed - _ROUNDING).astype(np.int64) - 1
        return np.clip(last_frames // factor, 0, max(num_frames - 1, 0))

    def token_targets(
        self, tokens: Sequence[int], counts: Sequence[int], factor: int, num_frames: int, speed: float = 1.0
    ) -> np.ndarray:
        """(T',) int64, the token that each encoder frame belongs to, 0 (blank) for silence; see `token_ends`."""
        # Index -1, silence, is the last entry.
        owners = np.append(np.repeat(np.asarray(tokens, dtype=np.int64), counts), 0)
        return np.asarray(owners[self.units_at(factor, num_frames, speed)])

    def words(self) -> Iterator[tuple[str, int, int]]:
        """Yield each word with its first frame and the frame behind its last one, without the boundary before it."""
        first = 0
        for index in range(1, len(self.units) + 1):
            if index == len(self.units) or self.units[index] == WORD_BOUNDARY:
                inner = slice(first + 1, index)
                yield "".join(self.units[inner]), int(self.starts[inner][0]), int(self.ends[inner][-1])
                first = index


def units_of(text: str) -> tuple[str, ...]:
    """The characters of a transcript, with `WORD_BOUNDARY` in front of every word; words end at white space."""
    return tuple("".join(WORD_BOUNDARY + word for word in text.split()))


def without_times(text: str, frames: int) -> Timeline:
    """The timeline of an utterance for which no alignment was found."""
    nothing = np.zeros(0, dtype=np.int64)
    return Timeline(units_of(text), nothing, nothing, frames)


def from_spans(text: str, counts: Sequence[int], spans: Sequence[tuple[int, int]], frames: int) -> Timeline:
    """Make a timeline from the spans of tokens or words, each shared out evenly over its units.

    Args:
        text: the transcript.
        counts: number of units of each token; they sum to the units of the transcript.
        spans: first frame of each token and the frame behind its last one, in order; cut to the utterance's frames.
        frames: number of frames of the utterance.
    """
    units = units_of(text)
    assert sum(counts) == len(units), (text, counts)
    starts: list[int] = []
    ends: list[int] = []
    for count, (start, end) in zip(counts, spans, strict=True):
        bounds = [min(start + (end - start) * part // count, frames) for part in range(count + 1)] if count else [0]
        starts += bounds[:-1]
        ends += bounds[1:]
    return Timeline(units, np.asarray(starts, dtype=np.int64), np.asarray(ends, dtype=np.int64), frames)


def spans_of_emissions(emissions: Sequence[int], factor: int, frames: int) -> list[tuple[int, int]]:
    """Turn the encoder frames that emit tokens into spans without silence between them.

    A transducer determines when a token is emitted, not how long it lasts. The boundary between two tokens is therefore
    halfway between their emissions, and the encoder frame on it belongs to the earlier token. The first token begins
    with the utterance, and the last one ends with it.

    Args:
        emissions: ascending encoder frames, one for each token.
        factor: feature frames per encoder frame.
        frames: feature frames of the utterance.
    """
    # Behind the middle of the last encoder frame at or before the boundary (`Timeline.units_at`), rounded down.
    inner = [min(factor * (first + second) // 2 + factor // 2 + 1, frames) for first, second in pairwise(emissions)]
    bounds = [0, *inner, frames]
    return list(pairwise(bounds)) if emissions else []


def spans_of_runs(path: Sequence[int], num_labels: int, factor: int, frames: int) -> list[tuple[int, int]]:
    """Turn a path that tells the label of each encoder frame, or -1 for silence, into the span of each label.

    Every label has at least one frame, and its frames are contiguous.

    Args:
        factor: feature frames per encoder frame.
        frames: feature frames of the utterance, to which spans are cut.
    """
    labels = np.asarray(path)
    first = np.searchsorted(np.maximum.accumulate(labels), np.arange(num_labels))
    lengths = np.bincount(labels[labels >= 0], minlength=num_labels)
    return [
        (min(int(start) * factor, frames), min(int(start + length) * factor, frames))
        for start, length in zip(first, lengths, strict=True)
    ]


def frames_of_seconds(seconds: float) -> int:
    """The nearest boundary between frames of 10 ms."""
    return math.floor(seconds * 100 + 0.5)
