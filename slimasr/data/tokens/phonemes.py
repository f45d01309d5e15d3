"""The tokenizer whose tokens are the phonemes of a lexicon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from slimasr.data.graphs.lexicon import LEXICON_FILE, RUN_AGAIN, Lexicon
from slimasr.data.tokens.tokenizer import SPECIAL, TOKENS_FILE, Tokenizer
from slimasr.errors import UserError
from slimasr.files import write_atomic
from slimasr.textfiles import Line, read_lines


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
            raise UserError(f"{path} is missing: {RUN_AGAIN}")
        labels = tuple(_label(number, line) for number, line in enumerate(read_lines(path)))
        tokenizer = cls(Lexicon.read(lang_dir), labels)
        if labels != (*SPECIAL, *tokenizer.lexicon.labels):
            raise UserError(f"{path}: holds other labels than {LEXICON_FILE}; {RUN_AGAIN}")
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
        raise UserError(f"{line.where}: damaged, expected a label and the number {number}; {RUN_AGAIN}")
    return label
