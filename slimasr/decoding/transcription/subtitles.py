"""Subtitles: words with times as SubRip (srt) and WebVTT (vtt) files.

A cue is what is shown at once. It has at most two lines of 42 characters and lasts at most 7 seconds, unless a single
word lasts longer; a pause begins a new one. A short cue stays a little, if the next one allows it. (The lengths are
those of Netflix's Timed Text Style Guide.)

::

    1                                    WEBVTT
    00:00:00,480 --> 00:00:02,160
    RUBOUT G M E F                       00:00:00.480 --> 00:00:02.160
    THREE NINE                           RUBOUT G M E F THREE NINE
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from slimasr.decoding.searches.timed import Transcript, Word

LINE_CHARACTERS = 42
LINES = 2
LONGEST_SECONDS = 7.0
SHORTEST_SECONDS = 1.0
"""A cue stays so long if nothing follows before."""

PAUSE_SECONDS = 0.5
"""A pause of this length between two words separates cues."""


@dataclass(frozen=True)
class Cue:
    """Lines of text, shown from ``start`` to ``end``, which are milliseconds from the start of the recording."""

    start: int
    end: int
    lines: tuple[str, ...]


def to_srt(transcript: Transcript) -> str:
    """Write a transcript as a SubRip file; without words it is empty."""
    blocks = (
        f"{number}\n{_time(cue.start, ',')} --> {_time(cue.end, ',')}\n" + "".join(f"{line}\n" for line in cue.lines)
        for number, cue in enumerate(cues(transcript), start=1)
    )
    return "\n".join(blocks)


def to_vtt(transcript: Transcript) -> str:
    """Write a transcript as a WebVTT file (W3C, 2019); without words it has its head alone."""
    blocks = (
        f"\n{_time(cue.start, '.')} --> {_time(cue.end, '.')}\n" + "".join(f"{_escaped(line)}\n" for line in cue.lines)
        for cue in cues(transcript)
    )
    return "WEBVTT\n" + "".join(blocks)


def cues(transcript: Transcript) -> list[Cue]:
    """Divide a transcript into cues, which do not overlap and last at least a millisecond."""
    groups = list(_groups([part for word in transcript.words for part in _parts(word)]))
    ends = [_milliseconds(transcript.seconds)]
    # From behind, so that every cue knows when the next one starts.
    for group in reversed(groups):
        ends.append(min(_milliseconds(group[0].start), max(0, ends[-1] - 1)))
    limits = list(reversed(ends))
    made = []
    for group, (start, limit) in zip(groups, pairwise(limits), strict=True):
        wanted = max(_milliseconds(group[-1].end), start + _milliseconds(SHORTEST_SECONDS))
        made.append(Cue(start, max(start + 1, min(wanted, limit)), _lines(group)))
    return made


def _groups(words: Sequence[Word]) -> Iterable[list[Word]]:
    """Yield the words of each cue."""
    group: list[Word] = []
    for word in words:
        if group and not _belongs(word, group):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _belongs(word: Word, group: Sequence[Word]) -> bool:
    """Whether a word can be shown with those before it."""
    pauses = word.start - group[-1].end >= PAUSE_SECONDS
    lasts = word.end - group[0].start > LONGEST_SECONDS
    return not pauses and not lasts and len(_wrapped([*group, word], LINE_CHARACTERS)) <= LINES


def _lines(words: Sequence[Word]) -> tuple[str, ...]:
    """Divide words into lines of about equal length."""
    wrapped = _wrapped(words, LINE_CHARACTERS)
    for width in range(max(len(word.word) for word in words), LINE_CHARACTERS):
        narrower = _wrapped(words, width)
        if len(narrower) == len(wrapped):
            return tuple(narrower)
    return tuple(wrapped)


def _wrapped(words: Iterable[Word], width: int) -> list[str]:
    text = " ".join(word.word for word in words)
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _parts(word: Word) -> list[Word]:
    """Divide a word that is longer than a line, as in languages without spaces; its time is divided evenly."""
    letters = word.word
    pieces = [letters[place : place + LINE_CHARACTERS] for place in range(0, len(letters), LINE_CHARACTERS)]
    step = (word.end - word.start) * LINE_CHARACTERS / len(letters)
    starts = [word.start + number * step for number in range(len(pieces))]
    ends = [*starts[1:], word.end]
    bounds = zip(pieces, starts, ends, strict=True)
    return [Word(piece, start, end, word.confidence) for piece, start, end in bounds]


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _time(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{rest:03d}"


def _escaped(text: str) -> str:
    """Write the characters that have a meaning in a WebVTT file in its own way."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
