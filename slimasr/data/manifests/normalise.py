"""Change transcripts as ``data.text`` says, and count what was changed.

This happens once, in stage 1. All later stages read its manifests, so tokenizer, training and scoring see the same
text.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from slimasr.config.data_text import TextConfig
from slimasr.data.corpora.base import ListedUtterance
from slimasr.data.files import BadUtterance
from slimasr.data.identity.digests import DIGITS, file_digest
from slimasr.errors import UserError
from slimasr.textfiles import read_lines

APOSTROPHE = "'"
_APOSTROPHES = frozenset((APOSTROPHE, "\u2019"))
_CASES: dict[str, Callable[[str], str]] = {"keep": str, "upper": str.upper, "lower": str.lower}
MOST_NAMED = 8
"""A line of the log names at most this many kinds of changes; the record has all."""


@dataclass(frozen=True)
class Counts:
    """How often text was changed.

    Attributes:
        dropped: regular expression -> number of its matches.
        mapped: text of the map -> number of replacements.
        case: ``upper`` or ``lower`` -> number of transcripts whose case was changed.
        punctuation: punctuation mark -> how often it was removed.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    mapped: Counter[str] = field(default_factory=Counter)
    case: Counter[str] = field(default_factory=Counter)
    punctuation: Counter[str] = field(default_factory=Counter)

    def add(self, other: Counts) -> None:
        """Add other counts to these."""
        for (_, counter), (_, more) in zip(self._named(), other._named(), strict=True):
            counter.update(more)

    def to_dict(self) -> dict[str, dict[str, int]]:
        """Plain JSON data, the most frequent changes first."""
        return {name: dict(counter.most_common()) for name, counter in self._named()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, int]]) -> Counts:
        """Inverse of `to_dict`."""
        return cls(*(Counter(values.get(name, {})) for name, _ in cls()._named()))

    def describe(self) -> str:
        """Describe the changes in one line; empty if there are none."""
        return "; ".join(f"{name} {_listed(counter)}" for name, counter in self._named() if counter)

    def _named(self) -> list[tuple[str, Counter[str]]]:
        return [
            ("dropped", self.dropped),
            ("mapped", self.mapped),
            ("case", self.case),
            ("punctuation", self.punctuation),
        ]


@dataclass(frozen=True)
class Normalised:
    """A transcript after all changes, and how many there were."""

    text: str
    counts: Counts


@dataclass(frozen=True)
class Changed:
    """Utterances with changed transcripts.

    Attributes:
        utterances: in the order in which they were given.
        counts: changes of all transcripts.
        emptied: id -> former transcript, where nothing is left of it.
    """

    utterances: list[ListedUtterance]
    counts: Counts
    emptied: dict[str, str]

    def explained(self, bad: Iterable[BadUtterance]) -> list[BadUtterance]:
        """Add to the reasons why transcripts are empty."""
        return [
            replace(item, reason=f"{item.reason}: data.text leaves nothing of {self.emptied[item.id]!r}")
            if item.id in self.emptied
            else item
            for item in bad
        ]


@dataclass(frozen=True)
class Rules:
    """``data.text`` with the content of its map.

    Attributes:
        unicode: normal form, None for none.
        drop: the regular expressions to remove.
        map: old text -> new text.
        case: the case into which all letters are turned, as in ``data.text.case``.
        remove_punctuation: whether punctuation marks become spaces.
        by_first: character -> the old texts of the map that begin with it, the longest first.
    """

    unicode: str | None = None
    drop: tuple[re.Pattern[str], ...] = ()
    map: Mapping[str, str] = field(default_factory=dict)
    case: str = "keep"
    remove_punctuation: bool = False
    by_first: Mapping[str, Sequence[str]] = field(default_factory=dict)


def read_rules(config: TextConfig) -> Rules:
    """The rules of a recipe.

    Raises:
        UserError: the map cannot be read, or a line of it does not have two columns or repeats an entry.
    """
    entries = {} if config.map is None else _read_map(Path(config.map), config.unicode)
    return Rules(
        unicode=config.unicode,
        drop=tuple(re.compile(pattern) for pattern in config.drop),
        map=entries,
        case=config.case,
        remove_punctuation=config.remove_punctuation,
        by_first=_by_first(entries),
    )


def normalised(text: str, rules: Rules) -> Normalised:
    """Apply all rules to a transcript, with one space between the words that are left."""
    counts = Counts()
    text = _composed(text, rules.unicode)
    for pattern in rules.drop:
        text = pattern.sub(partial(_dropped, counts), text)
    if rules.map:
        text = _mapped(text, rules, counts)
    # A letter in the other case may be decomposed.
    cased = _composed(_CASES[rules.case](text), rules.unicode)
    if cased != text:
        counts.case[rules.case] += 1
    text = cased
    if rules.remove_punctuation:
        text = _without_punctuation(text, counts)
    return Normalised(" ".join(text.split()), counts)


def normalise_utterances(utterances: Iterable[ListedUtterance], rules: Rules) -> Changed:
    """Apply all rules to the transcripts of utterances."""
    changed = Changed([], Counts(), {})
    for utterance in utterances:
        result = normalised(utterance.text, rules)
        changed.utterances.append(replace(utterance, text=result.text))
        changed.counts.add(result.counts)
        if not result.text and utterance.text.strip():
            changed.emptied[utterance.id] = utterance.text
    return changed


def text_settings(config: TextConfig) -> dict[str, Any]:
    """The keys of ``data.text`` on which transcripts depend, with the digest of the map in place of its path.

    Models may be used where the map does not exist; then nothing is said about it.
    """
    settings: dict[str, Any] = {"data.text": config.model_dump(exclude={"map"})}
    if config.map is None:
        settings["data.text.map"] = None
    elif Path(config.map).is_file():
        settings["data.text.map"] = file_digest(Path(config.map))[:DIGITS]
    return settings


def _read_map(path: Path, form: str | None) -> dict[str, str]:
    if not path.is_file():
        raise UserError(f"data.text.map: {path}: No such file; correct the path")
    entries: dict[str, str] = {}
    for line in read_lines(path):
        if not line.text.strip():
            continue
        old, tab, new = line.text.partition("\t")
        old = _composed(old.strip(), form)
        if not tab or not old or "\t" in new:
            raise UserError(f"{line.where}: needs two columns with a tab between them, the old text and the new one")
        if old in entries:
            raise UserError(f"{line.where}: {old!r} is mapped twice; keep one of the lines")
        entries[old] = _composed(new.strip(), form)
    if not entries:
        raise UserError(f"{path}: data.text.map: the file has no lines; leave the key out if nothing is mapped")
    return entries


def _by_first(entries: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    # Of two entries that begin at the same place, the longer one counts.
    for old in sorted(entries, key=len, reverse=True):
        found.setdefault(old[0], []).append(old)
    return found


def _dropped(counts: Counts, match: re.Match[str]) -> str:
    # An expression such as (?<=a) also matches between two letters, where there is nothing to remove.
    if not match[0]:
        return ""
    counts.dropped[match.re.pattern] += 1
    # A space, so that the words around a mark do not grow together.
    return " "


def _mapped(text: str, rules: Rules, counts: Counts) -> str:
    """Replace every entry in one pass, so that replaced text is not replaced again."""
    made = []
    place = 0
    while place < len(text):
        entries = rules.by_first.get(text[place], ())
        old = next((entry for entry in entries if _stands_at(entry, text, place)), None)
        if old is not None:
            counts.mapped[old] += 1
        made.append(text[place] if old is None else _set_off(old, rules.map[old]))
        place += 1 if old is None else len(old)
    return "".join(made)


def _stands_at(old: str, text: str, place: int) -> bool:
    """Whether an entry stands here: as whole words, unless it is a single character."""
    if not text.startswith(old, place):
        return False
    # Some characters have their accent or vowel sign as a character of its own in every normal form.
    if all(map(_is_mark, old[1:])):
        return True
    after = place + len(old)
    # Entries such as "&c." end with no letter, where no word ends either.
    begins_within = old[0].isalnum() and place > 0 and _is_of_word(text[place - 1])
    is_letter = old[-1].isalnum() or _is_mark(old[-1])
    ends_within = is_letter and after < len(text) and _is_of_word(text[after])
    return not begins_within and not ends_within


def _set_off(old: str, new: str) -> str:
    """The new text, with spaces around a word that takes the place of a sign: ``5%`` is ``5 percent``."""
    is_word = len(new) > 1 and any(map(str.isalnum, new))
    return f" {new} " if is_word and len(old) == 1 and unicodedata.category(old)[0] in "PS" else new


def _is_of_word(character: str) -> bool:
    return character.isalnum() or character == "_" or _is_mark(character)


def _is_mark(character: str) -> bool:
    """Whether a character belongs to the letter before it, as accents and the vowel signs of Devanagari do."""
    return unicodedata.category(character)[0] == "M"


def _without_punctuation(text: str, counts: Counts) -> str:
    kept = []
    for place, character in enumerate(text):
        if unicodedata.category(character)[0] != "P":
            kept.append(character)
        elif _within_word(text, place):
            # Two kinds of apostrophe would make two spellings of a word.
            kept.append(APOSTROPHE)
            if character != APOSTROPHE:
                counts.punctuation[character] += 1
        else:
            kept.append(" ")
            counts.punctuation[character] += 1
    return "".join(kept)


def _within_word(text: str, place: int) -> bool:
    """Whether there is an apostrophe between two letters; an accent belongs to the letter before it."""
    around = text[place - 1 : place] + text[place + 1 : place + 2]
    return text[place] in _APOSTROPHES and len(around) == 2 and all(unicodedata.category(c)[0] in "LM" for c in around)


def _composed(text: str, form: str | None) -> str:
    # The type of the library knows four forms, of which the recipe can name two.
    return text if form is None else unicodedata.normalize("NFKC" if form == "NFKC" else "NFC", text)


def _listed(counter: Counter[str]) -> str:
    shown = ", ".join(f"{what!r} {number} times" for what, number in counter.most_common(MOST_NAMED))
    return shown + (f" and {len(counter) - MOST_NAMED} more" if len(counter) > MOST_NAMED else "")
