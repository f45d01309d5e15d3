"""Pronunciation lexicons of label sequences."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from slimasr.data.graphs.dictionary import Pronunciation, Pronunciations
from slimasr.data.identity.digests import DIGITS
from slimasr.errors import UserError
from slimasr.files import write_atomic
from slimasr.textfiles import read_lines

LEXICON_FILE = "lexicon.txt"
RUN_AGAIN = "run stage 3 (slimasr-bpe and slimasr-graph) again"


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
            raise UserError(f"{path} is missing: {RUN_AGAIN}")
        found: dict[str, list[Pronunciation]] = {}
        for line in read_lines(path):
            word, *labels = line.text.split() or [""]
            if not labels:
                raise UserError(f"{line.where}: damaged, a line needs a word and labels; {RUN_AGAIN}")
            found.setdefault(word, []).append(tuple(labels))
        if not found:
            raise UserError(f"{path}: damaged (empty file); {RUN_AGAIN}")
        return cls({word: tuple(variants) for word, variants in found.items()})
