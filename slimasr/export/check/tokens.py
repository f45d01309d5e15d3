"""The table of tokens as sherpa-onnx reads it, and what it recognised as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slimasr.data.tokenizer import SPECIAL, Tokenizer
from slimasr.errors import UserError
from slimasr.export.check.runtime import Said

WORD_BEGIN = "\u2581"
"""SentencePiece's sign of a word boundary, which sherpa-onnx writes as a space."""


@dataclass(frozen=True)
class TokenTable:
    """Converts what sherpa-onnx says to token ids.

    Attributes:
        ids: token, as sherpa-onnx writes it -> its id.
    """

    ids: dict[str, int]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> TokenTable:
        """Make the table of a tokenizer, whose ``tokens.txt`` a bundle has."""
        shown = (_shown(token) for token in tokenizer.tokens)
        return cls({token: number for number, token in enumerate(shown)})

    def tokens_of(self, said: Said) -> tuple[int, ...]:
        """Return the token ids of a result, without blank and ``<unk>``; -1 stands for a token that is not ours."""
        numbers = (self.ids.get(token, -1) for token in said.tokens)
        # Greedy search of CTC models reports ``<unk>``, which is no token of a text.
        return tuple(number for number in numbers if number not in (Tokenizer.blank_id, Tokenizer.unk_id))


def _shown(token: str) -> str:
    return " " + token.removeprefix(WORD_BEGIN) if token.startswith(WORD_BEGIN) else token


def spoken_text(said: Said) -> str:
    """Return the text of a result without the names of special tokens, which have no text."""
    text = said.text
    for name in SPECIAL:
        text = text.replace(name, "")
    return " ".join(text.split())


def check_tokens(path: Path, tokenizer: Tokenizer) -> None:
    """Check that a bundle's table is that of the experiment's tokenizer.

    Raises:
        UserError: it differs; the message names the first line.
    """
    found = path.read_text(encoding="utf-8").splitlines()
    expected = [f"{token} {number}" for number, token in enumerate(tokenizer.tokens)]
    for number, (line, wanted) in enumerate(zip(found, expected, strict=False), start=1):
        if line != wanted:
            raise UserError(f"{path}: line {number} is {line!r}, needs to be {wanted!r}; {_ADVICE}")
    if len(found) != len(expected):
        raise UserError(f"{path}: has {len(found)} tokens, needs to have {len(expected)}; {_ADVICE}")


def changed_tokens(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """Return the smallest number of insertions, deletions and substitutions between two sequences of tokens."""
    row = list(range(len(theirs) + 1))
    for number, token in enumerate(ours, start=1):
        before, row[0] = row[0], number
        for place, other in enumerate(theirs, start=1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (token != other))
    return row[-1]


_ADVICE = "export the bundle again (slimasr-export)"
