"""What sherpa-onnx says as ids and text: of tokens, or of words where it searches in a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from slimasr.data.tokens.tokenizer import SPECIAL, Tokenizer
from slimasr.export.check.runtime import Said

WORD_BEGIN = "\u2581"
"""SentencePiece's sign of a word boundary, which sherpa-onnx writes as a space."""


class Reading(Protocol):
    """Reads results of sherpa-onnx."""

    @property
    def in_words(self) -> bool:
        """Whether the texts consist of words, which a word error rate needs."""

    def ids(self, said: Said) -> tuple[int, ...]:
        """Return the ids of a result; -1 stands for what is not ours."""

    def text(self, said: Said) -> str:
        """Return the text of a result, with single spaces."""


@dataclass(frozen=True)
class TokenReading:
    """Reads tokens.

    Attributes:
        tokenizer: that of the model.
        numbers: token, as sherpa-onnx writes it -> its id.
    """

    tokenizer: Tokenizer
    numbers: Mapping[str, int]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> TokenReading:
        """Read the tokens of a tokenizer, whose ``tokens.txt`` a bundle has."""
        return cls(tokenizer, {_shown(token): number for number, token in enumerate(tokenizer.tokens)})

    @property
    def in_words(self) -> bool:
        return self.tokenizer.spells

    def ids(self, said: Said) -> tuple[int, ...]:
        """Return token ids without blank and ``<unk>``."""
        found = (self.numbers.get(token, -1) for token in said.tokens)
        # Greedy search of CTC models reports ``<unk>``, which is no token of a text.
        return tuple(number for number in found if number not in (self.tokenizer.blank_id, self.tokenizer.unk_id))

    def text(self, said: Said) -> str:
        """Return the text without the names of special tokens, which have no text."""
        text = said.text
        if not self.tokenizer.spells:
            # sherpa-onnx writes phonemes without spaces.
            text = self.tokenizer.decode([number for number in self.ids(said) if number >= 0])
        for name in SPECIAL:
            text = text.replace(name, "")
        return " ".join(text.split())


@dataclass(frozen=True)
class WordReading:
    """Reads numbers of words.

    Attributes:
        words: number -> word of the graph.
    """

    words: Sequence[str]
    in_words: bool = True

    def ids(self, said: Said) -> tuple[int, ...]:
        """Return the numbers of words."""
        return tuple(number if number < len(self.words) else -1 for number in said.words)

    def text(self, said: Said) -> str:
        """Return the words."""
        return " ".join(self.words[number] for number in self.ids(said) if number >= 0)


def _shown(token: str) -> str:
    return " " + token.removeprefix(WORD_BEGIN) if token.startswith(WORD_BEGIN) else token


def changed_tokens(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """Return the smallest number of insertions, deletions and substitutions between two sequences of tokens."""
    row = list(range(len(theirs) + 1))
    for number, token in enumerate(ours, start=1):
        before, row[0] = row[0], number
        for place, other in enumerate(theirs, start=1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (token != other))
    return row[-1]
