"""Find utterances whose audio and transcript hardly belong together, or whose audio cannot be used.

How much text an utterance has is compared with others of its length and language. The logarithm of the number of
characters is a straight line over the logarithm of the seconds, by the median of the slopes between pairs of utterances
(Theil 1950, Sen 1968), which a part of wrong transcripts does not move. How far an utterance is from the line is
measured in robust standard deviations: 1.4826 times the median distance from the median (Hampel 1974).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import theilslopes

from slimasr.data.gathering import Row

FAR = 4.0
"""Utterances further from the line than this many robust standard deviations have too much or too little text."""

LEAST_UTTERANCES = 20
"""A language with fewer utterances has no line."""

LEAST_DEVIATION = 0.1
"""Least robust standard deviation, of the natural logarithm: one tenth more or less text is never suspicious."""

SILENT_LEVEL = -60.0
"""Utterances whose loud parts are below this level, in dB below full scale, are silent."""

SILENT_BELOW = 40.0
"""So are those which are this many dB below the median of their set."""

CLIPPED_SHARE = 0.001
"""Utterances with this share of their samples in flat tops are clipped."""

MOST_POINTS = 400
"""The line is drawn through at most this many utterances, since the number of pairs grows with its square."""

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
    heard = [(row, row.sound.level) for row in rows if row.sound is not None]
    if not heard:
        return []
    usual = float(np.median([level for _, level in heard]))
    limit = max(SILENT_LEVEL, usual - SILENT_BELOW)
    return [
        _Ranked(row, -level, f"silent: {level:.0f} dB below full scale at its loudest, where {usual:.0f} dB are usual")
        for row, level in heard
        if level < limit
    ]


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
            found += _far_from_line(group)
    return found


def _far_from_line(rows: Sequence[Row]) -> list[_Ranked]:
    seconds = np.log([row.seconds for row in rows])
    characters = np.log([row.characters for row in rows])
    expected = _line(seconds, characters)
    rest = characters - expected
    deviation = max(_DEVIATION * float(np.median(np.abs(rest))), LEAST_DEVIATION)
    found = []
    for place in np.flatnonzero(np.abs(rest) > FAR * deviation):
        row, usual = rows[place], math.exp(expected[place])
        much = "much" if rest[place] > 0 else "little"
        reason = f"too {much} text: {row.characters} characters in {row.seconds:.2f} s, where {usual:.0f} are usual"
        found.append(_Ranked(row, abs(float(rest[place])) / deviation, reason))
    return found


def _line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The values at ``x`` of the line by Theil and Sen, so that the median of the distances from it is zero."""
    # Evenly spaced by length, so that all lengths are among them.
    order = np.argsort(x, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(len(order), MOST_POINTS)).astype(int)]
    # Equal lengths have no slope.
    slope = float(theilslopes(y[chosen], x[chosen])[0]) if np.ptp(x[chosen]) > 0.0 else 0.0
    # Single words need not be longer if they have more letters, but never the other way round.
    line: np.ndarray = max(slope, 0.0) * x
    return line + np.median(y - line)
