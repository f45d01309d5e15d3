"""Pronunciation lexicons of label sequences, and the tokenizer whose tokens are the phonemes of a lexicon."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from slimasr.data.graphs.dictionary import Pronunciation, Pronunciations
from slimasr.data.identity import DIGITS
from slimasr.data.tokenizer import SPECIAL, TOKENS_FILE, Tokenizer
from slimasr.errors import UserError
from slimasr.files import write_atomic
from slimasr.textfiles import Line, read_lines

LEXICON_FILE = "lexicon.txt"
_AGAIN = "run stage 3 (slimasr-bpe and slimasr-graph) again"


@dataclass(frozen=True)
class Lexicon:
    """The words that a search can find, each with its pronunciations as sequences of labels.

    Attributes:
        pronunciations: word -> its label sequences; training uses the first one, a search all of them.
    """

    pronunciations: Pronunciations

    @property
    def words(self) -> tuple[str, ...]:
        """The words in the order of the dictionary."""
        return tuple(self.pronunciations)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that occur, sorted."""
        used = {label for _, pronunciation in self.entries() for label in pronunciation}
        return tuple(sorted(used))

    @property
    def digest(self) -> str:
        """Digest of words and pronunciations."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()[:DIGITS]

    def entries(self) -> Iterator[tuple[str, Pronunciation]]:
        """Every pronunciation with its word."""
        for word, variants in self.pronunciations.items():
            for pronunciation in variants:
                yield word, pronunciation

    def missing(self, text: str) -> list[str]:
        """The words of a text that have no pronunciation."""
        return [word for word in text.split() if word not in self.pronunciations]

    def restricted(self, words: Iterable[str]) -> Lexicon:
        """The entries of these words."""
        kept = set(words)
        return Lexicon({word: found for word, found in self.pronunciations.items() if word in kept})

    def to_text(self) -> str:
        """Lines ``word label label ...``, one per pronunciation."""
        return "".join(f"{word} {' '.join(pronunciation)}\n" for word, pronunciation in self.entries())

    def write(self, folder: Path) -> None:
        """Write ``lexicon.txt`` into a folder."""
        write_atomic(folder / LEXICON_FILE, self.to_text())

    @classmethod
    def read(cls, folder: Path) -> Lexicon:
        """Read the ``lexicon.txt`` of a folder.

        Raises:
            UserError: it is missing, empty or damaged.
        """
        path = folder / LEXICON_FILE
        if not path.is_file():
            raise UserError(f"{path} is missing: {_AGAIN}")
        found: dict[str, list[Pronunciation]] = {}
        for line in read_lines(path):
            word, *labels = line.text.split() or [""]
            if not labels:
                raise UserError(f"{line.where}: damaged, a line needs a word and labels; {_AGAIN}")
            found.setdefault(word, []).append(tuple(labels))
        if not found:
            raise UserError(f"{path}: damaged (empty file); {_AGAIN}")
        return cls({word: tuple(variants) for word, variants in found.items()})


@dataclass(frozen=True)
class PhonemeTokenizer(Tokenizer):
    """The phonemes of a lexicon, of which the last one of each word has a token of its own.

    A transcript becomes the first pronunciation of each of its words. The words of tokens are found only by a search
    with the lexicon (`slimasr.data.graphs.graph`).

    Attributes:
        lexicon: its labels are the tokens behind the three special ones.
        labels: id -> token, the special ones included.
    """

    lexicon: Lexicon
    labels: tuple[str, ...]

    @classmethod
    def of(cls, lexicon: Lexicon) -> PhonemeTokenizer:
        """The tokenizer of a lexicon, whose tokens are the labels that occur in it."""
        return cls(lexicon, (*SPECIAL, *lexicon.labels))

    @classmethod
    def load(cls, lang_dir: Path) -> PhonemeTokenizer:
        """Read what `write` wrote to a folder, or a copy of it.

        Raises:
            UserError: a file is missing or damaged, or the tokens are not those of the lexicon.
        """
        path = lang_dir / TOKENS_FILE
        if not path.is_file():
            raise UserError(f"{path} is missing: {_AGAIN}")
        labels = tuple(_label(number, line) for number, line in enumerate(read_lines(path)))
        tokenizer = cls(Lexicon.read(lang_dir), labels)
        if labels != (*SPECIAL, *tokenizer.lexicon.labels):
            raise UserError(f"{path}: holds other labels than {LEXICON_FILE}; {_AGAIN}")
        return tokenizer

    def write(self, lang_dir: Path) -> None:
        """Write ``tokens.txt``, with lines ``label id``, and ``lexicon.txt``."""
        write_atomic(lang_dir / TOKENS_FILE, "".join(f"{label} {number}\n" for label, number in self._ids.items()))
        # Written last: its presence means that the folder is complete.
        self.lexicon.write(lang_dir)

    @property
    def tokens(self) -> tuple[str, ...]:
        """id -> label."""
        return self.labels

    @property
    def fingerprint(self) -> str:
        """Digest of the lexicon, from which the labels follow."""
        return self.lexicon.digest

    @property
    def spells(self) -> bool:
        """Phonemes do not spell words."""
        return False

    def encode(self, text: str) -> list[int]:
        """Token ids of a transcript; a word without pronunciation becomes one ``<unk>``."""
        return [number for word in text.split() for number in self._ids_of(word)]

    def unencodable(self, text: str) -> str | None:
        """Why `encode` makes ``<unk>`` of a part of a transcript, or None."""
        missing = list(dict.fromkeys(self.lexicon.missing(text)))
        if not missing:
            return None
        words = "a word" if len(missing) == 1 else "words"
        return f"transcript has {words} without pronunciation: {', '.join(missing)}"

    def decode(self, ids: Sequence[int]) -> str:
        """The labels of token ids, separated by spaces; blanks and sentence marks are dropped."""
        # Id 1 is the sentence mark.
        return " ".join(self.labels[number] for number in ids if number not in (self.blank_id, 1))

    def unit_counts(self, text: str) -> list[int]:
        """The number of units that each token stands for: those of each word are shared out evenly over its labels."""
        return [count for word in text.split() for count in shares(len(word) + 1, len(self._ids_of(word)))]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {label: number for number, label in enumerate(self.labels)}

    def _ids_of(self, word: str) -> list[int]:
        variants = self.lexicon.pronunciations.get(word)
        return [self.unk_id] if variants is None else [self._ids[label] for label in variants[0]]


def shares(units: int, parts: int) -> list[int]:
    """Whole numbers that sum to ``units`` and differ by at most 1."""
    bounds = [units * part // parts for part in range(parts + 1)]
    return [end - start for start, end in pairwise(bounds)]


def _label(number: int, line: Line) -> str:
    """The label of a line ``label id`` of ``tokens.txt``."""
    label, _, written = line.text.rpartition(" ")
    if not label or written != str(number):
        raise UserError(f"{line.where}: damaged, expected a label and the number {number}; {_AGAIN}")
    return label
