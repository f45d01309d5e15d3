"""Align the words of references and hypotheses, and count the edits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import kaldialign

# A word never contains a space, so this cannot be confused with any word of a transcript.
_NO_WORD = " "


@dataclass(frozen=True)
class Utterance:
    """The reference and the hypothesis of an utterance, as words."""

    id: str
    ref: tuple[str, ...]
    hyp: tuple[str, ...]


@dataclass(frozen=True)
class EditCounts:
    """Numbers of edits between references and hypotheses; counts of several utterances are added with ``+``."""

    correct: int = 0
    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0

    def __add__(self, other: EditCounts) -> EditCounts:
        return EditCounts(
            self.correct + other.correct,
            self.substitutions + other.substitutions,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
        )

    @property
    def words(self) -> int:
        """Number of words in the reference."""
        return self.correct + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Number of substitutions, deletions and insertions."""
        return self.substitutions + self.insertions + self.deletions


@dataclass(frozen=True)
class Alignment:
    """The aligned words of an utterance.

    Attributes:
        id: utterance id.
        pairs: (reference word, hypothesis word); None on the left is an insertion, on the right a deletion.
    """

    id: str
    pairs: tuple[tuple[str | None, str | None], ...]

    def operations(self) -> tuple[str, ...]:
        """``C``, ``S``, ``I`` or ``D`` per pair."""
        return tuple(_operation(ref, hyp) for ref, hyp in self.pairs)

    def counts(self) -> EditCounts:
        """The edits of this utterance."""
        operations = self.operations()
        # In the order of the fields of `EditCounts`.
        return EditCounts(*(operations.count(name) for name in "CSID"))


def align(utterance: Utterance) -> Alignment:
    """The alignment with the fewest edits (Levenshtein distance with equal costs, as in Kaldi).

    Several alignments may have the same number of edits. The choice among them may differ from Kaldi's, so the numbers
    of substitutions, insertions and deletions may differ from Kaldi's; their sum is always equal.
    """
    pairs = kaldialign.align(utterance.ref, utterance.hyp, _NO_WORD)
    # kaldialign fills gaps with the placeholder, which becomes None.
    return Alignment(utterance.id, tuple((_word(ref), _word(hyp)) for ref, hyp in pairs))


def word_errors(utterance: Utterance) -> int:
    """The smallest number of substitutions, insertions and deletions; faster than counting those of `align`."""
    return int(kaldialign.edit_distance(utterance.ref, utterance.hyp)["total"])


def total(alignments: Iterable[Alignment]) -> EditCounts:
    """The edits of all utterances together."""
    return sum((a.counts() for a in alignments), EditCounts())


def _word(symbol: str) -> str | None:
    return None if symbol == _NO_WORD else symbol


def _operation(ref: str | None, hyp: str | None) -> str:
    if ref is None:
        return "I"
    if hyp is None:
        return "D"
    return "C" if ref == hyp else "S"
