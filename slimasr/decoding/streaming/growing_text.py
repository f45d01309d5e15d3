"""The text of tokens that arrive one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

_WORD_MARK = "▁"
"""SentencePiece's mark at the start of a word."""


class Detokenizer(Protocol):
    """See `slimasr.data.tokens.tokenizer.Tokenizer`."""

    @property
    def tokens(self) -> Sequence[str]:
        """Id -> piece."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids."""


class GrowingText:
    """The text of all tokens so far; words that are complete are not converted again."""

    def __init__(self, tokenizer: Detokenizer) -> None:
        """Start without tokens."""
        self._tokenizer = tokenizer
        # The text of complete words, None = there is none, and the tokens behind them.
        self._words: str | None = None
        self._open: list[int] = []

    def settle(self, tokens: Sequence[int]) -> None:
        """Append tokens that will not change."""
        self._open += tokens
        # The last word may go on.
        for start in range(len(self._open) - 1, 0, -1):
            if self._begins_word(start):
                self._words = self._joined(self._open[:start])
                self._open = self._open[start:]
                return

    def with_end(self, tokens: Sequence[int]) -> str:
        """Return the text with further tokens, which may still change."""
        return self._joined([*self._open, *tokens]).strip()

    def _begins_word(self, place: int) -> bool:
        """Whether one of the open tokens begins a word, and has a character of it."""
        pieces = [self._tokenizer.tokens[token] for token in self._open[place : place + 2]]
        if not pieces[0].startswith(_WORD_MARK):
            return False
        # The tokenizer drops all marks at the start of a text, but only one of them stands for the space that separates
        # two parts. So a mark alone must be followed by a character.
        return "".join(pieces)[1:2] not in ("", _WORD_MARK)

    def _joined(self, tokens: Sequence[int]) -> str:
        text = self._tokenizer.decode(tokens)
        if self._words is None:
            return text
        # The mark at the start of the tokens, which the tokenizer drops, stands for a space.
        return f"{self._words} {text}" if tokens else self._words
