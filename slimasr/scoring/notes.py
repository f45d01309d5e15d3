"""What is odd about references and hypotheses that were scored, in words for the user."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from slimasr.scoring.alignment import Utterance, align
from slimasr.scoring.wer import WerResult

Form = Literal["NFC", "NFKC"]
SUSPICIOUS_WER = 50.0
"""Above this WER in percent a difference in writing is looked for."""
LARGE_PART = 0.5
"""A difference in writing is named where ignoring it leaves less than this fraction of the WER."""
NEGLIGIBLE = 1.0
"""Ignoring one more difference is worth naming from this many points of WER on."""


@dataclass(frozen=True)
class Spelling:
    """Which differences in writing are ignored.

    Attributes:
        case: upper and lower case.
        form: Unicode normal form to which texts are brought; None = none.
        punctuation: punctuation marks.
    """

    case: bool
    form: Form | None
    punctuation: bool

    def describe(self) -> str:
        """In words, for example ``case and punctuation``."""
        names = [
            *(["case"] if self.case else []),
            *([f"Unicode normal form ({self.form})"] if self.form else []),
            *(["punctuation"] if self.punctuation else []),
        ]
        return " and ".join(names)

    @property
    def size(self) -> int:
        """How many differences are ignored."""
        return self.case + (self.form is not None) + self.punctuation

    def apply(self, words: Sequence[str]) -> tuple[str, ...]:
        """The words without these differences; those of which nothing is left are gone."""
        return tuple(filter(None, (self._apply_to(word) for word in words)))

    def _apply_to(self, word: str) -> str:
        if self.punctuation:
            word = "".join(character for character in word if not unicodedata.category(character).startswith("P"))
        if self.form is not None:
            word = unicodedata.normalize(self.form, word)
        if self.case:
            word = word.casefold()
        # Case folding may leave a normal form.
        return word if self.form is None else unicodedata.normalize(self.form, word)


def notes(utterances: Sequence[Utterance], result: WerResult) -> Iterator[str]:
    """One line for each thing that is odd: differences in writing, a single utterance.

    Args:
        utterances: references and hypotheses, as words.
        result: their score.
    """
    if len(utterances) == 1:
        yield "one utterance only: there is no confidence interval"
    found = find_spelling(utterances, result.wer)
    if found is not None:
        spelling, wer = found
        yield (
            f"without regard to {spelling.describe()} the WER falls from {result.wer:.2f} to {wer:.2f}: references and "
            "hypotheses are written differently; normalise both in the same way"
        )


def find_spelling(utterances: Sequence[Utterance], wer: float) -> tuple[Spelling, float] | None:
    """The fewest differences in writing that explain a high WER, and the WER in percent when they are ignored.

    Returns:
        None where the WER is at most `SUSPICIOUS_WER`, or no combination of differences brings it below
        `LARGE_PART` of what it is.
    """
    if wer <= SUSPICIOUS_WER:
        return None
    forms: tuple[Form | None, ...] = (None, "NFC", "NFKC")
    choices = [Spelling(*choice) for choice in product((False, True), forms, (False, True))]
    rates = {spelling: _wer(utterances, spelling) for spelling in choices if spelling.size}
    lowest = min(rates.values())
    if lowest >= LARGE_PART * wer:
        return None
    # Of equal ones the first: NFC changes less than NFKC.
    explaining = [spelling for spelling, rate in rates.items() if rate < lowest + NEGLIGIBLE]
    fewest = min(explaining, key=lambda spelling: spelling.size)
    return fewest, rates[fewest]


def _wer(utterances: Sequence[Utterance], spelling: Spelling) -> float:
    """WER in percent; infinite where no reference keeps a word."""
    plain = [Utterance(u.id, spelling.apply(u.ref), spelling.apply(u.hyp)) for u in utterances]
    words = sum(len(u.ref) for u in plain)
    errors = sum(align(u).counts().errors for u in plain)
    return 100.0 * errors / words if words else float("inf")
