"""Token ids of many transcripts, whose words occur again and again."""

from __future__ import annotations

from itertools import chain

from slimasr.data.tokens.subwords import SentencePieceTokenizer
from slimasr.data.tokens.tokenizer import SPECIAL, Tokenizer

SPACE_SIGN = "\u2581"
"""SentencePiece's sign of a space, with which the first piece of a word begins."""


class WordEncoder:
    """`Tokenizer.encode`, with the tokens of each word kept where those of a text are the tokens of its words."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Words are kept if ``splits`` is true: the tokens of a text are the tokens of its words."""
        self._tokenizer = tokenizer
        self.splits = isinstance(tokenizer, SentencePieceTokenizer) and _encodes_words_apart(tokenizer)
        self._known = _KnownWords(tokenizer)

    def encode(self, text: str) -> list[int]:
        """Token ids of a transcript."""
        if not self.splits or SPACE_SIGN in text:
            return self._tokenizer.encode(text)
        return list(chain.from_iterable(map(self._known.__getitem__, text.split(" "))))


class _KnownWords(dict[str, list[int]]):
    """Word -> its tokens, which are made when they are asked for the first time."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        # Between two spaces is no word.
        super().__init__({"": []})
        self._tokenizer = tokenizer

    def __missing__(self, word: str) -> list[int]:
        ids = self[word] = self._tokenizer.encode(word)
        return ids


def _encodes_words_apart(tokenizer: SentencePieceTokenizer) -> bool:
    """Whether the tokens of a text are, exactly, those of its words.

    So it is for single characters, and for byte pairs, whose merges never cross the beginning of a word. The best path
    of unigrams does not cross it either, but its scores are rounded sums, which depend on the words before.
    """
    pieces = tokenizer.pieces[len(SPECIAL) :]
    if all(len(piece) == 1 for piece in pieces):
        return True
    # The scores of byte pairs are the ranks of merges, those of unigrams logarithms of probabilities.
    ranks = (tokenizer.processor.GetScore(number) for number in range(len(SPECIAL), tokenizer.vocab_size))
    return all(score == int(score) for score in ranks) and not any(SPACE_SIGN in piece[1:] for piece in pieces)
