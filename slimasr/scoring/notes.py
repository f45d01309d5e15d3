"""Notes for the user on peculiarities of the references and hypotheses that were scored."""

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
"""Differences in writing are searched for if the WER in percent is above this one."""
LARGE_PART = 0.5
"""A difference in writing is reported if ignoring it leaves less than this fraction of the WER."""
NEGLIGIBLE = 1.0
"""One more difference is reported only if ignoring it lowers the WER by at least this many percent points."""


@dataclass(frozen=True)
class Spelling:
    """Which differences in writing are ignored.

    Attributes:
        case: upper and lower case.
        form: Unicode normal form to which texts are converted; None = none.
        punctuation: punctuation marks.
    """

    case: bool
    form: Form | None
    punctuation: bool

    def describe(self) -> str:
        """Describe the differences in words, for example ``case and punctuation``."""
        names = []
        if self.case:
            names.append("case")
        if self.form is not None:
            names.append(f"Unicode normal form ({self.form})")
        if self.punctuation:
            names.append("punctuation")
        return " and ".join(names)

    @property
    def size(self) -> int:
        """Number of differences that are ignored."""
        return self.case + (self.form is not None) + self.punctuation

    def apply(self, words: Sequence[str]) -> tuple[str, ...]:
        """Remove these differences from words; words of which nothing is left are dropped."""
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
    """Yield one line for each peculiarity: differences in writing, a single utterance.

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
    """Find the fewest differences in writing that explain a high WER, and the WER in percent without them.

    Returns:
        None if the WER is at most `SUSPICIOUS_WER`, or if no combination of differences brings it below
        `LARGE_PART` of its value.
    """
    if wer <= SUSPICIOUS_WER:
        return None
    forms: tuple[Form | None, ...] = (None, "NFC", "NFKC")
    choices = [Spelling(*choice) for choice in product((False, True), forms, (False, True))]
    # All 11 combinations that ignore something; this happens rarely, as the WER must be high.
    rates = {spelling: _wer(utterances, spelling) for spelling in choices if spelling.size}
    lowest = min(rates.values())
    # Most of the errors are real ones, whatever is ignored.
    if lowest >= LARGE_PART * wer:
        return None
    # Among combinations of equal size the first one is chosen: NFC changes less than NFKC.
    explaining = [spelling for spelling, rate in rates.items() if rate < lowest + NEGLIGIBLE]
    fewest = min(explaining, key=lambda spelling: spelling.size)
    return fewest, rates[fewest]


def _wer(utterances: Sequence[Utterance], spelling: Spelling) -> float:
    """WER in percent; infinite if no reference keeps a word."""
    plain = [Utterance(u.id, spelling.apply(u.ref), spelling.apply(u.hyp)) for u in utterances]
    words = sum(len(u.ref) for u in plain)
    errors = sum(align(u).counts().errors for u in plain)
    return 100.0 * errors / words if words else float("inf")
