"""Find utterances that occur more than once: the same audio, the same id, or the same text and length of a speaker."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from slimasr.data.inspection.gathering import Row

MOST_EXAMPLES = 10
MOST_IDS = 5
"""An example names at most this many utterances."""

SAME_AUDIO = "same audio"
SAME_ID = "same id"
SAME_TEXT = "same text and length"

_KINDS: Mapping[str, Callable[[Row], Hashable]] = {
    SAME_AUDIO: lambda row: row.audio,
    SAME_ID: lambda row: row.id,
    # Of one speaker, as many speakers of a short text take equally long by chance.
    SAME_TEXT: lambda row: (row.text, round(row.seconds, 4), row.speaker),
}


@dataclass(frozen=True)
class Repeats:
    """Utterances of one set that repeat an earlier one.

    Attributes:
        kind: ``same audio``, ``same id``, or ``same text and length`` (of one speaker, and without those of the same
            audio).
        utterances: how many utterances repeat an earlier one.
        examples: ids of utterances that are equal in this way, at most five of ten groups.
    """

    kind: str
    utterances: int
    examples: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Shared:
    """Utterances that two sets have in common.

    Attributes:
        kind: ``same audio`` or ``same id``.
        sets: names of the two sets.
        utterances: utterances of the second set that are also in the first one.
        examples: at most ten of them: the id in the first set, and the id in the second one.
    """

    kind: str
    sets: tuple[str, str]
    utterances: int
    examples: tuple[tuple[str, str], ...]


def find_repeats(rows: Sequence[Row]) -> tuple[Repeats, ...]:
    """Find the repeated utterances of a set; kinds without any are left out."""
    found = []
    for kind, key in _KINDS.items():
        several = _groups(rows, key)
        if kind == SAME_TEXT:
            # Copies of the audio have been named already.
            several = [group for group in several if len({row.audio for row in group}) > 1]
        if several:
            counted = sum(_copies(group, kind) for group in several)
            examples = tuple(tuple(row.id for row in group[:MOST_IDS]) for group in several[:MOST_EXAMPLES])
            found.append(Repeats(kind, counted, examples))
    return tuple(found)


def find_shared(sets: Mapping[str, Sequence[Row]]) -> tuple[Shared, ...]:
    """Find the utterances that sets have in common, for every pair of sets."""
    found = []
    for first, second in combinations(sets, 2):
        for kind in (SAME_AUDIO, SAME_ID):
            key = _KINDS[kind]
            known = {key(row): row.id for row in sets[first]}
            both = [(known[key(row)], row.id) for row in sets[second] if key(row) in known]
            if both:
                found.append(Shared(kind, (first, second), len(both), tuple(both[:MOST_EXAMPLES])))
    return tuple(found)


def _groups(rows: Sequence[Row], key: Callable[[Row], Hashable]) -> list[list[Row]]:
    """The rows that are not alone with their key, in groups."""
    firsts: dict[Hashable, Row] = {}
    # Only few rows are repeated, so that lists are made for these alone.
    groups: dict[Hashable, list[Row]] = {}
    for row in rows:
        first = firsts.setdefault(key(row), row)
        if first is not row:
            groups.setdefault(key(row), [first]).append(row)
    return list(groups.values())


def _copies(group: Sequence[Row], kind: str) -> int:
    """How many utterances of a group repeat an earlier one."""
    distinct = len({row.audio for row in group}) if kind == SAME_TEXT else len(group)
    return distinct - 1
