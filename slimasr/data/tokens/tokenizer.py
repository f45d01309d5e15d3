"""The interface of tokenizers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

BLANK = "<blk>"
SOS_EOS = "<sos/eos>"
UNK = "<unk>"
SPECIAL = (BLANK, SOS_EOS, UNK)
"""The tokens with ids 0, 1 and 2."""

TOKENS_FILE = "tokens.txt"
"""The file of a tokenizer's folder with lines ``token id``, as device runtimes read them."""


class Tokenizer(ABC):
    """Converts text to token ids and back.

    Ids 0, 1, 2 are `BLANK`, `SOS_EOS` and `UNK` in tokenizers of every kind, because the searches of transducers and
    device runtimes take them for granted.
    """

    blank_id: ClassVar[int] = 0
    unk_id: ClassVar[int] = 2

    @property
    @abstractmethod
    def tokens(self) -> tuple[str, ...]:
        """id -> token."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Digest of everything on which `encode` and `decode` depend; it distinguishes tokenizers of equal size."""

    @property
    @abstractmethod
    def spells(self) -> bool:
        """Whether `decode` returns words; otherwise only a search with a lexicon finds the words of tokens."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens, including the special ones."""
        return len(self.tokens)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids of a transcript; what the tokenizer does not know becomes ``<unk>``."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; blanks and sentence marks have no text.

        If the tokenizer does not spell (`spells`), the text holds the tokens themselves, separated by spaces.
        """

    @abstractmethod
    def unencodable(self, text: str) -> str | None:
        """Why `encode` makes ``<unk>`` of a part of a transcript, or None."""

    @abstractmethod
    def unit_counts(self, text: str) -> list[int]:
        """The number of units (see `slimasr.data.timelines.timeline`) that each token of a transcript stands for."""
