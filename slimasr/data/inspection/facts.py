"""Facts about the utterances of sets: how much speech, whose, how long, with which text, and what looks wrong.

`inspect_sets` makes them from cuts and, if audio was read, from figures of the sound of each
(`slimasr.data.inspection.sounds`). Cuts are read one at a time; of each, only some numbers are kept
(`slimasr.data.inspection.gathering`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from lhotse.cut import Cut

from slimasr.data.files import BadUtterance
from slimasr.data.inspection.gathering import UNKNOWN, AudioFigures, Gathered, Row, Tally, gather
from slimasr.data.inspection.repeats import Repeats, Shared, find_repeats, find_shared
from slimasr.data.inspection.suspects import Suspect, find_suspects

MOST_SUSPECTS = 10
MOST_LEFT_OUT = 10
MOST_BINS = 40
"""A histogram has at most about this many bins."""

HISTOGRAM_SHARE = 0.99
"""The bins of a histogram reach as far as this share of the utterances of every set."""

T = TypeVar("T", int, str)


@dataclass(frozen=True)
class Part:
    """The part of a set that has one value of a property.

    Attributes:
        value: the value: a language, a sampling rate in Hz, a number of channels or a format; an unknown language is
            empty.
        utterances: number of utterances.
        hours: their length.
    """

    value: str | int
    utterances: int
    hours: float


@dataclass(frozen=True)
class Histogram:
    """How often values occur.

    Attributes:
        width: width of the bins, of which the first one begins at 0; a value belongs to the bin in which it begins.
        counts: utterances in each bin.
        above: utterances above the last bin.
        smallest, median, largest: of all values; 0 without any.
    """

    width: float
    counts: tuple[int, ...]
    above: int
    smallest: float
    median: float
    largest: float


@dataclass(frozen=True)
class SetFacts:
    """What is known of one set.

    Attributes:
        name: of the set.
        hours: length of all utterances.
        utterances: their number.
        speakers: number of speakers.
        without_speaker: utterances that name none.
        languages: every language, the most frequent first.
        rates: sampling rates of the audio files, in Hz.
        channels: numbers of channels of the audio files.
        formats: container and encoding of the audio files as libsndfile names them, such as ``WAV PCM_16``; without
            reading audio, the endings of their names.
        durations: histogram of the utterances' lengths in seconds.
        pace: histogram of their characters per second, without white space.
        words: all words.
        vocabulary: different words.
        characters: every character with its occurrences, the most frequent first, without white space.
        audio_read: whether audio was read: otherwise nothing is said about silence and clipping, and only utterances of
            one and the same file have the same audio.
        repeats: utterances that occur several times.
        suspicious: number of utterances that look wrong.
        suspects: the ten most suspicious ones.
        left_out: number of utterances without usable audio or text, which are not part of the set.
        left_out_first: the first ten of them, with the reason.
    """

    name: str
    hours: float
    utterances: int
    speakers: int
    without_speaker: int
    languages: tuple[Part, ...]
    rates: tuple[Part, ...]
    channels: tuple[Part, ...]
    formats: tuple[Part, ...]
    durations: Histogram
    pace: Histogram
    words: int
    vocabulary: int
    characters: dict[str, int]
    audio_read: bool
    repeats: tuple[Repeats, ...]
    suspicious: int
    suspects: tuple[Suspect, ...]
    left_out: int
    left_out_first: tuple[BadUtterance, ...]


@dataclass(frozen=True)
class DataFacts:
    """What is known of several sets.

    Attributes:
        sets: the sets, in the order in which they were given.
        shared: utterances that two of them have in common.
    """

    sets: tuple[SetFacts, ...]
    shared: tuple[Shared, ...]


def inspect_set(cuts: Iterable[Cut], name: str = "") -> SetFacts:
    """Return the facts about one set, from its cuts alone: no audio is read."""
    return inspect_sets({name: ((cut, None) for cut in cuts)}).sets[0]


def inspect_sets(
    sets: Mapping[str, Iterable[tuple[Cut, AudioFigures]]], left_out: Mapping[str, Sequence[BadUtterance]] | None = None
) -> DataFacts:
    """Return the facts about sets, whose histograms have the same bins.

    Args:
        sets: set name -> its cuts, each with the figures of its sound; None if it was not read.
        left_out: set name -> utterances that are not among the cuts, and why.
    """
    gathered = {name: gather(cuts) for name, cuts in sets.items()}
    widths = (
        _width([_durations(found.rows) for found in gathered.values()]),
        _width([_paces(found.rows) for found in gathered.values()]),
    )
    bad = left_out or {}
    facts = tuple(_facts(name, found, widths, bad.get(name, ())) for name, found in gathered.items())
    return DataFacts(facts, find_shared({name: found.rows for name, found in gathered.items()}))


def lacking_characters(facts: SetFacts, training: Iterable[SetFacts]) -> dict[str, int]:
    """The characters of a set that no training set has, with their occurrences, the most frequent first."""
    known = {character for each in training for character in each.characters}
    return {character: number for character, number in facts.characters.items() if character not in known}


def _facts(name: str, found: Gathered, widths: tuple[float, float], left_out: Sequence[BadUtterance]) -> SetFacts:
    suspicious, suspects = find_suspects(found.rows, MOST_SUSPECTS)
    unknown = found.speakers.get(UNKNOWN, Tally())
    return SetFacts(
        name=name,
        hours=math.fsum(row.seconds for row in found.rows) / 3600.0,
        utterances=len(found.rows),
        speakers=len(found.speakers.keys() - {UNKNOWN}),
        without_speaker=unknown.utterances,
        languages=_parts(found.languages),
        rates=_parts(found.rates),
        channels=_parts(found.channels),
        formats=_parts(found.formats),
        durations=_histogram(_durations(found.rows), widths[0]),
        pace=_histogram(_paces(found.rows), widths[1]),
        words=found.words.total(),
        vocabulary=len(found.words),
        characters=_by_number(found.characters),
        audio_read=found.has_audio,
        repeats=find_repeats(found.rows),
        suspicious=suspicious,
        suspects=suspects,
        left_out=len(left_out),
        left_out_first=tuple(left_out[:MOST_LEFT_OUT]),
    )


def _parts(tallies: Mapping[T, Tally]) -> tuple[Part, ...]:
    parts = [Part(value, tally.utterances, tally.seconds / 3600.0) for value, tally in tallies.items()]
    return tuple(sorted(parts, key=lambda part: (-part.utterances, str(part.value))))


def _by_number(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _durations(rows: Iterable[Row]) -> np.ndarray:
    return np.array([row.seconds for row in rows])


def _paces(rows: Iterable[Row]) -> np.ndarray:
    return np.array([row.characters / row.seconds for row in rows if row.seconds > 0.0])


def _width(values_of_sets: Iterable[np.ndarray]) -> float:
    """A round width of bins that suits all sets: 1, 2 or 5 times a power of ten."""
    reach = max((float(np.quantile(values, HISTOGRAM_SHARE)) for values in values_of_sets if values.size), default=0.0)
    if reach <= 0.0:
        return 1.0
    least = reach / MOST_BINS
    power = 10.0 ** math.floor(math.log10(least))
    factor: float = next(factor for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= least * (1.0 - 1e-9))
    # Rounded, because products such as 0.1 * 3 have digits that only say how numbers are stored.
    return float(f"{factor * power:.6g}")


def _histogram(values: np.ndarray, width: float) -> Histogram:
    if not values.size:
        return Histogram(width, (), 0, 0.0, 0.0, 0.0)
    last = math.ceil(float(np.quantile(values, HISTOGRAM_SHARE)) / width)
    # A value on an edge begins the bin above it, in spite of rounding.
    bins = np.floor(values / width + 1e-9).astype(np.int64)
    counts = np.bincount(bins[bins < last], minlength=last)
    return Histogram(
        width=width,
        counts=tuple(map(int, counts)),
        above=int((bins >= last).sum()),
        smallest=float(values.min()),
        median=float(np.median(values)),
        largest=float(values.max()),
    )
