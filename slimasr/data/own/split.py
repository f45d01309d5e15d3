"""Split sets off from listed utterances: by speaker where enough speakers are known, otherwise by utterance.

A speaker, or an utterance, is drawn by a number in [0, 1) that is a digest of its name and the seed. The shares of the
sets are consecutive intervals that begin at 0, and what lies beyond them stays. So the set of an utterance does not
depend on which others there are, and utterances that are added later move no earlier one, except where a set would be
empty.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slimasr.data.corpora.base import ListedUtterance
from slimasr.errors import UserError

FEWEST_SPEAKERS = 10
"""With fewer speakers, a share of them is no share of the speech."""

MUCH_MORE = 3.0
"""A set that is this many times as large as its share is worth a note, as speakers may differ in their amount."""


@dataclass(frozen=True)
class SetSize:
    """The size of a set after the split; ``speakers`` counts those whose names are known."""

    utterances: int
    speakers: int

    def __str__(self) -> str:
        """Return the size in words."""
        utterances = _counted(self.utterances, "utterance")
        return f"{utterances} of {_counted(self.speakers, 'speaker')}" if self.speakers else utterances


@dataclass(frozen=True)
class Split:
    """The sets after a split, and how they were made.

    Attributes:
        sets: set name -> its utterances, in the order in which they were listed; first the sets from which others were
            split off, then these.
        by: ``speaker`` or ``utterance``.
        reason: why, in words.
        seed: seed of the draw.
        shares: set that was split off -> share that was asked for.
        sizes: set name -> its size.
        notes: what the user should know, one line each.
    """

    sets: dict[str, list[ListedUtterance]]
    by: str
    reason: str
    seed: int
    shares: dict[str, float]
    sizes: dict[str, SetSize]
    notes: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Everything but the utterances, as plain JSON data."""
        return {
            "by": self.by,
            "reason": self.reason,
            "seed": self.seed,
            "shares": self.shares,
            "sizes": {name: asdict(size) for name, size in self.sizes.items()},
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """Describe the split for the log, one line each."""
        names = " and ".join(f"{share:g} for {name}" for name, share in self.shares.items())
        sizes = ", ".join(f"{name} {size}" for name, size in self.sizes.items())
        return [f"split by {self.by} ({self.reason}; {names}; seed {self.seed}): {sizes}", *self.notes]


def parse_shares(text: str) -> tuple[float, float]:
    """Read the shares of dev and test, which are separated by a comma or a space: ``0.05,0.05``.

    Raises:
        UserError: these are not two numbers above 0 with a sum below 1.
    """
    words = text.replace(",", " ").split()
    try:
        dev, test = (float(word) for word in words)
    except ValueError:
        raise UserError(f"data.options.split: needs two numbers, the shares of dev and test, not {text!r}") from None
    if not (dev > 0.0 and test > 0.0 and dev + test < 1.0):
        raise UserError(f"data.options.split: needs two numbers above 0 whose sum is below 1, not {text!r}")
    return dev, test


def split(whole: Mapping[str, Sequence[ListedUtterance]], shares: Mapping[str, float], seed: int) -> Split:
    """Split sets off from others.

    Args:
        whole: set name -> utterances, for the sets from which others are split off.
        shares: new set -> its share of all utterances or speakers, above 0, with a sum below 1.
        seed: seed of the draw.

    Raises:
        UserError: there are fewer utterances than sets.
    """
    everything = [utterance for utterances in whole.values() for utterance in utterances]
    by_speaker, reason = _by_speaker(everything)
    # A speaker, or a single utterance, goes to one set as a whole.
    units = {item.id: item.speaker if by_speaker else item.id for item in everything}
    drawn = _draw(set(units.values()), shares, seed)
    sets: dict[str, list[ListedUtterance]] = {name: [] for name in [*whole, *shares]}
    for name, utterances in whole.items():
        for item in utterances:
            sets[drawn.get(units[item.id], name)].append(item)
    empty = next((name for name, utterances in sets.items() if not utterances), None)
    if empty is not None:
        what = (
            f"only {_counted(len(everything), 'utterance')}" if len(everything) <= len(sets) else "too few utterances"
        )
        raise UserError(
            f"data.options.split: {what} to split {' and '.join(shares)} off from {' and '.join(whole)}, "
            f"so {empty} is empty; name a path for each set in data.sources"
        )
    sizes = {name: SetSize(len(items), len(_speakers(items))) for name, items in sets.items()}
    notes = _notes(sets, shares, by_speaker=by_speaker)
    return Split(sets, "speaker" if by_speaker else "utterance", reason, seed, dict(shares), sizes, tuple(notes))


def _by_speaker(utterances: Sequence[ListedUtterance]) -> tuple[bool, str]:
    """Whether to split by speaker, and why."""
    speakers = _speakers(utterances)
    unknown = sum(not _speaker(item) for item in utterances)
    if unknown and speakers:
        return False, f"{unknown} of {len(utterances)} utterances have no speaker"
    if len(speakers) < FEWEST_SPEAKERS:
        known = _counted(len(speakers), "known speaker") if speakers else "no known speakers"
        return False, f"{known}, and a split by speaker needs {FEWEST_SPEAKERS}"
    return True, f"{len(speakers)} known speakers"


def _draw(units: set[str], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Unit -> the set to which it goes; units that stay are missing."""
    numbers = {unit: _number(unit, seed) for unit in units}
    found: dict[str, list[str]] = defaultdict(list)
    drawn: dict[str, str] = {}
    low = 0.0
    for name, share in shares.items():
        for unit, number in numbers.items():
            if low <= number < low + share:
                drawn[unit] = name
                found[name].append(unit)
        low += share
    # Of a few units, perhaps none has a number in a short interval. One that would stay comes as close as possible.
    for name in shares:
        staying = sorted((numbers[unit], unit) for unit in units if unit not in drawn)
        if not found[name] and len(staying) > 1:
            drawn[staying[0][1]] = name
    return drawn


def _number(unit: str, seed: int) -> float:
    """A number in [0, 1) that looks random and depends on its arguments alone."""
    # File names may hold bytes that are not valid UTF-8.
    digest = hashlib.sha256(f"{seed}\n{unit}".encode(errors="surrogateescape")).digest()
    # 53 bits are what a float holds exactly.
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def _notes(
    sets: Mapping[str, Sequence[ListedUtterance]], shares: Mapping[str, float], *, by_speaker: bool
) -> list[str]:
    notes = []
    total = sum(map(len, sets.values()))
    for name, share in shares.items():
        part = len(sets[name]) / total
        if len(sets[name]) > 1 and part > MUCH_MORE * share:
            notes.append(
                f"{name} has {100 * part:.0f} % of the utterances, more than its share of {100 * share:g} %; another "
                "data.options.split_seed draws other ones"
            )
    if not by_speaker:
        names = " and ".join(shares)
        notes.append(
            f"utterances of {names} may be of speakers of the training sets, so the word error rates on {names} hold "
            "for known voices only; name the speakers, or give sets of other speakers"
        )
    return notes


def _speakers(utterances: Sequence[ListedUtterance]) -> set[str]:
    return {_speaker(item) for item in utterances} - {""}


def _speaker(utterance: ListedUtterance) -> str:
    """The speaker if it is known: Kaldi names a speaker like the utterance where it is not."""
    return "" if utterance.speaker == utterance.id else utterance.speaker


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
