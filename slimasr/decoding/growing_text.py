"""The text of tokens that arrive one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from slimasr.data.tokenizer import Tokenizer

_WORD_MARK = "▁"
"""SentencePiece's mark at the start of a word."""


class GrowingText:
    """The text of all tokens so far; words that are complete are not converted again."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Start without tokens."""
        self._tokenizer = tokenizer
        # The text of complete words, None = there is none, and the tokens behind them.
        self._words: str | None = None
        self._open: list[int] = []

    def settle(self, tokens: Sequence[int]) -> None:
        """Append tokens that will not change."""
        self._open += tokens
        starts = [place for place, token in enumerate(self._open) if self._begins_word(token)]
        # The last word may go on.
        if starts and starts[-1] > 0:
            self._words = self._joined(self._open[: starts[-1]])
            self._open = self._open[starts[-1] :]

    def with_end(self, tokens: Sequence[int]) -> str:
        """Return the text with further tokens, which may still change."""
        return self._joined([*self._open, *tokens]).strip()

    def _begins_word(self, token: int) -> bool:
        return self._tokenizer.tokens[token].startswith(_WORD_MARK)

    def _joined(self, tokens: Sequence[int]) -> str:
        text = self._tokenizer.decode(tokens)
        if self._words is None:
            return text
        # The tokenizer drops the mark at the start of a text, which stands for a space.
        return f"{self._words} {text}" if tokens else self._words
