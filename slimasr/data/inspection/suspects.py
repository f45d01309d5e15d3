"""Find utterances whose audio and transcript are unlikely to belong together, or whose audio cannot be used.

How long an utterance should be is read off its text: it takes some time of its own, some for each word, and some
for each character, which are fitted to the utterances of a language. Weights bound what an utterance can do to the fit
(Huber 1964), so that a part of wrong transcripts does not spoil it. An utterance is suspicious if the logarithm of its
length, in proportion to the expected one, is far from the median in robust standard deviations: 1.4826 times the median
distance from the median (Hampel 1974), here of longer and of shorter utterances apart, since pauses only lengthen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from slimasr.data.inspection.gathering import Row

FAR = 4.0
"""Utterances further from the median than this many robust standard deviations have too much or too little text."""

LEAST_UTTERANCES = 20
"""Nothing is fitted to a language with fewer utterances."""

LEAST_DEVIATION = 0.1
"""Least robust standard deviation of the natural logarithm: a tenth more or less than expected is never suspicious."""

SILENT_LEVEL = -60.0
"""Utterances whose loud parts are below this level, in dB of full scale, are silent."""

SILENT_BELOW = 40.0
"""So are those which are this many dB below the median of their set."""

CLIPPED_SHARE = 0.001
"""Utterances with this share of their samples in flat tops are clipped."""

MOST_FITTED = 20_000
"""The times of words and characters are fitted to at most this many utterances."""

_FITS = 10
_HUBER = 1.5
_DEVIATION = 1.4826


@dataclass(frozen=True)
class Suspect:
    """An utterance to look at.

    Attributes:
        id: of the utterance.
        file: its audio file, with the times of the utterance in it if it is a segment.
        reason: what is suspicious about it, with figures.
    """

    id: str
    file: str
    reason: str


@dataclass(frozen=True)
class _Ranked:
    row: Row
    score: float
    reason: str


def find_suspects(rows: Sequence[Row], most: int) -> tuple[int, tuple[Suspect, ...]]:
    """Find the suspicious utterances of a set.

    Returns:
        Their number, and at most ``most`` of them: the worst of every kind in turn. Kinds are audio that cannot be
        read, silence, too much or too little text, and clipping.
    """
    kinds = [_unreadable(rows), _silent(rows), _wrong_length(rows), _clipped(rows)]
    ranked = [sorted(kind, key=lambda item: (-item.score, item.row.id)) for kind in kinds]
    reasons: dict[int, list[str]] = {}
    for item in (item for kind in ranked for item in kind):
        reasons.setdefault(id(item.row), []).append(item.reason)
    # An utterance of several kinds takes the turn of the first one, with all its reasons.
    chosen: dict[int, Row] = {}
    for place in range(max(map(len, ranked))):
        for kind in ranked:
            if place < len(kind):
                chosen.setdefault(id(kind[place].row), kind[place].row)
    shown = list(chosen.values())[:most]
    return len(reasons), tuple(Suspect(row.id, row.file, "; ".join(reasons[id(row)])) for row in shown)


def _unreadable(rows: Iterable[Row]) -> list[_Ranked]:
    return [_Ranked(row, 0.0, f"its audio cannot be read: {row.unreadable}") for row in rows if row.unreadable]


def _silent(rows: Iterable[Row]) -> list[_Ranked]:
    measured = [(row, row.sound.level) for row in rows if row.sound is not None]
    if not measured:
        return []
    usual = float(np.median([level for _, level in measured]))
    limit = max(SILENT_LEVEL, usual - SILENT_BELOW)
    found = []
    for row, level in measured:
        if level < limit:
            reason = f"silent: its loud parts are at {level:.0f} dB of full scale, where {usual:.0f} dB are usual"
            found.append(_Ranked(row, -level, reason))
    return found


def _clipped(rows: Iterable[Row]) -> list[_Ranked]:
    found = []
    for row in rows:
        if row.sound is not None and row.sound.clipped >= CLIPPED_SHARE:
            share = row.sound.clipped
            found.append(_Ranked(row, share, f"clipped: {100 * share:.2g} % of its samples lie in flat tops"))
    return found


def _wrong_length(rows: Sequence[Row]) -> list[_Ranked]:
    """Utterances with too much or too little text for their length, in comparison with others of their language."""
    languages: dict[str, list[Row]] = {}
    for row in rows:
        if row.seconds > 0.0 and row.characters > 0:
            languages.setdefault(row.language, []).append(row)
    found = [_Ranked(row, math.inf, "it has no transcript") for row in rows if row.characters == 0]
    for group in languages.values():
        if len(group) >= LEAST_UTTERANCES:
            found += _far_from_expected(group)
    return found


def _far_from_expected(rows: Sequence[Row]) -> list[_Ranked]:
    seconds = np.array([row.seconds for row in rows])
    columns = ([1.0] * len(rows), [row.words for row in rows], [row.characters for row in rows])
    texts = np.array(columns, dtype=np.float64).T
    # Evenly spaced in the order of the set, so that all speakers are among them.
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), MOST_FITTED)).astype(int)
    fitted = texts @ _fit_times(texts[chosen], seconds[chosen])
    expected = fitted * np.median(seconds / fitted)
    rest = np.log(seconds / expected)
    found = []
    for longer in (True, False):
        side = rest if longer else -rest
        deviation = max(_DEVIATION * float(np.median(side[side >= 0.0])), LEAST_DEVIATION)
        for place in map(int, np.flatnonzero(side > FAR * deviation)):
            row = rows[place]
            reason = (
                f"too {'little' if longer else 'much'} text: {_letters(row.characters)} in {row.seconds:.2f} s, where "
                f"others take about {expected[place]:.2g} s"
            )
            found.append(_Ranked(row, float(side[place]) / deviation, reason))
    return found


def _fit_times(texts: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Fit the seconds of an utterance, a word and a character, (3,), none of them negative, by relative errors.

    Args:
        texts: (N, 3): 1, words and characters.
        seconds: (N,)
    """
    # A first guess that half of the utterances cannot spoil: all time is that of characters.
    times = np.array([0.0, 0.0, float(np.median(seconds / texts[:, 2]))])
    for _ in range(_FITS):
        expected = np.maximum(texts @ times, 1e-3)
        rest = np.log(seconds / expected)
        rest -= np.median(rest)
        deviation = max(_DEVIATION * float(np.median(np.abs(rest))), LEAST_DEVIATION)
        weights = np.minimum(1.0, _HUBER * deviation / np.maximum(np.abs(rest), 1e-9))
        scale = np.sqrt(weights) / expected
        times = nnls(texts * scale[:, None], seconds * scale)[0]
    return times


def _letters(number: int) -> str:
    return "1 character" if number == 1 else f"{number} characters"
