"""CTM files, which have one word or character per line: those of other aligners, such as Kaldi and MFA, and our own.

::

    utt1 1 0.31 0.24 HELLO 1.00      utterance, channel, start and duration in seconds, word; perhaps a confidence
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slimasr.data.timelines.timeline import WORD_BOUNDARY, Timeline, frames_of_seconds, from_spans
from slimasr.errors import UserError
from slimasr.textfiles import Line, read_lines

SILENCES = frozenset({"<eps>", "<sil>", "sil", "!sil", "sp", "spn", "<space>", "<blank>", "|", WORD_BOUNDARY})
"""Labels that stand for silence or for the space between words, in lower case; they are passed over."""

_COMMENT = ";;"
_SLACK_SECONDS = 0.02


@dataclass(frozen=True)
class Entry:
    """One line of a CTM file; times in seconds."""

    line: Line
    start: float
    end: float
    label: str


@dataclass(frozen=True)
class Reference:
    """What the timeline of an utterance needs: its transcript, and its length in frames of 10 ms."""

    text: str
    frames: int


def read_ctm(path: Path) -> dict[str, list[Entry]]:
    """Read a CTM file: utterance id -> its words or characters in order, without silence.

    Raises:
        UserError: a line has other columns, or its times are impossible.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: correct --ctm")
    found: dict[str, list[Entry]] = {}
    channels: dict[str, str] = {}
    for line in read_lines(path):
        if not line.text.strip() or line.text.startswith(_COMMENT):
            continue
        name, channel, entry = _parse(line)
        entries = found.setdefault(name, [])
        if channels.setdefault(name, channel) != channel:
            both = f"{channels[name]} and {channel}"
            raise UserError(f"{line.where}: {name}: has words in channels {both}; give one only")
        if entry.label.lower() in SILENCES:
            continue
        if entries and entry.start < entries[-1].end - _SLACK_SECONDS / 2:
            raise UserError(
                f"{line.where}: {name}: {entry.label!r} starts at {entry.start:g} s, before {entries[-1].label!r} ends "
                f"at {entries[-1].end:g} s"
            )
        entries.append(entry)
    if not found:
        raise UserError(f"{path}: holds no words")
    return found


def ctm_line(name: str, start: float, end: float, word: str, confidence: float) -> str:
    """Write a word as a line of a CTM file.

    Args:
        name: the utterance or recording, without white space.
        start: in seconds.
        end: likewise.
        word: the word.
        confidence: in [0, 1].
    """
    return f"{name} 1 {start:.3f} {end - start:.3f} {word} {confidence:.3f}\n"


def check_known(path: Path, entries: Mapping[str, Sequence[Entry]], known: Mapping[str, Reference]) -> None:
    """Raise `UserError` unless all utterances of a CTM file are in the data."""
    unknown = [name for name in entries if name not in known]
    if unknown:
        more = f" and {len(unknown) - 1} others" if len(unknown) > 1 else ""
        raise UserError(f"{path}: utterance {unknown[0]}{more} is in none of the sets of the configuration")


def timeline_of(path: Path, name: str, entries: Sequence[Entry], reference: Reference) -> Timeline:
    """Make the timeline of one utterance from words or from characters.

    A word's span is shared out evenly over its characters; a word boundary is the moment when its word begins.

    Raises:
        UserError: the labels are neither the words nor the characters of the transcript, or times are beyond the audio.
    """
    words = reference.text.split()
    labels = [entry.label for entry in entries]
    if labels != words and labels != list("".join(words)):
        raise UserError(f"{_where(path, entries, words)}: {name}: {_difference(labels, words)}")
    for entry in entries:
        if entry.end > reference.frames * 0.01 + _SLACK_SECONDS:
            raise UserError(
                f"{entry.line.where}: {name}: {entry.label!r} ends at {entry.end:g} s, the audio has "
                f"{reference.frames * 0.01:g} s"
            )
    spans = [_frames(entry, reference.frames) for entry in entries]
    # The rounded end of an entry may lie behind the start of the next.
    behind = [start for start, _ in spans[1:]] + [reference.frames]
    spans = [(start, max(start, min(end, limit))) for (start, end), limit in zip(spans, behind, strict=True)]
    sizes = [len(word) for word in words] if labels == words else [1] * len(labels)
    return from_spans(reference.text, *_with_boundaries(words, sizes, spans), reference.frames)


def _with_boundaries(
    words: Sequence[str], sizes: Sequence[int], spans: Sequence[tuple[int, int]]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Add the boundary in front of each word, without a length, to the units per span and to the spans."""
    counts: list[int] = []
    result: list[tuple[int, int]] = []
    left = iter(zip(sizes, spans, strict=True))
    for word in words:
        missing = len(word)
        while missing:
            size, span = next(left)
            if missing == len(word):
                counts.append(1)
                result.append((span[0], span[0]))
            counts.append(size)
            result.append(span)
            missing -= size
    return counts, result


def _frames(entry: Entry, frames: int) -> tuple[int, int]:
    return min(frames_of_seconds(entry.start), frames), min(frames_of_seconds(entry.end), frames)


def _parse(line: Line) -> tuple[str, str, Entry]:
    columns = line.text.split()
    if len(columns) not in (5, 6):
        raise UserError(
            f"{line.where}: has {len(columns)} columns; needs utterance, channel, start, duration, word and perhaps a "
            "confidence"
        )
    name, channel, start_text, duration_text, label = columns[:5]
    try:
        start, duration = float(start_text), float(duration_text)
    except ValueError:
        raise UserError(f"{line.where}: {name}: start or duration is not a number of seconds") from None
    if not (math.isfinite(start) and math.isfinite(duration) and start >= 0):
        raise UserError(f"{line.where}: {name}: start and duration need to be finite, and the start at least 0")
    if duration < 0:
        raise UserError(f"{line.where}: {name}: {label!r} ends before it starts")
    return name, channel, Entry(line, start, start + duration, label)


def _where(path: Path, entries: Sequence[Entry], words: Sequence[str]) -> str:
    """The line of the first word that differs."""
    for entry, word in zip(entries, words, strict=False):
        if entry.label != word:
            return entry.line.where
    return entries[-1].line.where if entries else str(path)


def _difference(labels: Sequence[str], words: Sequence[str]) -> str:
    for label, word in zip(labels, words, strict=False):
        if label != word:
            return f"has {label!r} where the transcript has {word!r}"
    return f"has {len(labels)} words or characters, the transcript {len(words)} words"
