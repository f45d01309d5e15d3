"""Compute the error rate of a set of utterances, over words, characters or phonemes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slimasr.errors import UserError
from slimasr.scoring.alignment import Alignment, EditCounts, Utterance, align, total
from slimasr.scoring.bootstrap import REPLICATIONS, wer_interval

# The layout of result files is imported where an entry is made: a command that recognises without scoring needs none.
if TYPE_CHECKING:
    from slimasr.results.schema import CerEntry, LanguageEntry, PerEntry, WerEntry


@dataclass(frozen=True)
class Unit:
    """The unit in which errors are counted.

    Attributes:
        name: ``word``, ``character`` or ``phoneme``.
        rate: name of the error rate, in files and in ``results.json``.
        suffix: end of the names of the other files.
    """

    name: str
    rate: str
    suffix: str


WORD = Unit("word", "wer", "")
CHARACTER = Unit("character", "cer", "_char")
PHONEME = Unit("phoneme", "per", "_phone")


@dataclass(frozen=True)
class WerResult:
    """Errors of a set of utterances.

    Attributes:
        counts: edits of all utterances; its ``words`` is the number of units.
        sentences: number of utterances.
        wrong_sentences: number of utterances with at least one error.
        ci95: 95 % bootstrap interval of the error rate in percent; None if it was not computed or does not exist.
        unit: the unit in which errors are counted.
    """

    counts: EditCounts
    sentences: int
    wrong_sentences: int
    ci95: tuple[float, float] | None = None
    unit: Unit = WORD

    @property
    def wer(self) -> float:
        """Error rate in percent, of words, characters or phonemes according to ``unit``."""
        return 100.0 * self.counts.errors / self.counts.words

    @property
    def ser(self) -> float:
        """Sentence error rate in percent."""
        return 100.0 * self.wrong_sentences / self.sentences

    def wer_entry(self) -> WerEntry:
        """The entry of a word error rate in a result file; the caller adds how it was measured."""
        from slimasr.results.schema import WerEntry

        return WerEntry(
            wer=self.wer,
            errors=self.counts.errors,
            words=self.counts.words,
            ins=self.counts.insertions,
            deletions=self.counts.deletions,
            sub=self.counts.substitutions,
            ser=self.ser,
            sentences=self.sentences,
            ci95=self.ci95,
        )

    def language_entry(self) -> LanguageEntry:
        """The entry of a word error rate on the utterances of one language in a result file."""
        from slimasr.results.schema import LanguageEntry

        return LanguageEntry(
            wer=self.wer,
            errors=self.counts.errors,
            words=self.counts.words,
            sentences=self.sentences,
            ci95=self.ci95,
        )

    def cer_entry(self) -> CerEntry:
        """The entry of a character error rate in a result file."""
        from slimasr.results.schema import CerEntry

        return CerEntry(
            cer=self.wer,
            errors=self.counts.errors,
            characters=self.counts.words,
            ins=self.counts.insertions,
            deletions=self.counts.deletions,
            sub=self.counts.substitutions,
            ser=self.ser,
            sentences=self.sentences,
            ci95=self.ci95,
        )

    def per_entry(self) -> PerEntry:
        """The entry of a phoneme error rate in a result file."""
        from slimasr.results.schema import PerEntry

        return PerEntry(
            per=self.wer,
            errors=self.counts.errors,
            phonemes=self.counts.words,
            ins=self.counts.insertions,
            deletions=self.counts.deletions,
            sub=self.counts.substitutions,
            ser=self.ser,
            sentences=self.sentences,
            ci95=self.ci95,
        )


def score(
    utterances: Sequence[Utterance], *, replications: int = REPLICATIONS, seed: int = 0, unit: Unit = WORD
) -> WerResult:
    """Compute error rates and a bootstrap interval; several sets are pooled by joining them into one sequence.

    An utterance with an empty reference is scored: all words of its hypothesis are insertions.

    Args:
        utterances: references and hypotheses.
        replications: number of resampled sets for the interval; 0 = no interval.
        seed: seed of the resampling.
        unit: the unit of the utterances (`slimasr.scoring.characters` splits words into characters).

    Raises:
        UserError: there is no utterance, or no reference has a word, so that the rate is undefined.
    """
    result = summarize([align(u) for u in utterances], unit)
    if not replications:
        return result
    return replace(result, ci95=wer_interval(utterances, replications=replications, seed=seed))


def summarize(alignments: Sequence[Alignment], unit: Unit = WORD) -> WerResult:
    """Compute the error rates of aligned utterances, without an interval.

    Raises:
        UserError: there is no utterance, or no reference has a word, so that the rate is undefined.
    """
    counts = total(alignments)
    # Checked here, because every rate divides by the number of words.
    if not counts.words:
        what = "no reference has a word" if alignments else "there is no utterance to score"
        raise UserError(f"{what}: the word error rate is undefined")
    wrong_sentences = sum(a.counts().errors > 0 for a in alignments)
    return WerResult(counts, len(alignments), wrong_sentences, unit=unit)
