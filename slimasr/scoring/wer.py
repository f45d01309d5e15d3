"""The error rate of a set of utterances, over words or over characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from slimasr.errors import UserError
from slimasr.results.schema import CerEntry, WerEntry
from slimasr.scoring.alignment import Alignment, EditCounts, Utterance, align, total
from slimasr.scoring.bootstrap import REPLICATIONS, wer_interval


@dataclass(frozen=True)
class Unit:
    """What is counted.

    Attributes:
        name: ``word`` or ``character``.
        rate: name of the error rate, in files and in ``results.json``.
    """

    name: str
    rate: str


WORD = Unit("word", "wer")
CHARACTER = Unit("character", "cer")


@dataclass(frozen=True)
class WerResult:
    """Errors of a set of utterances.

    Attributes:
        counts: edits of all utterances; its "words" are the units counted.
        sentences: utterances scored.
        wrong_sentences: utterances with at least one error.
        ci95: 95 % bootstrap interval of the WER in percent, None where it was not asked for or does not exist.
    """

    counts: EditCounts
    sentences: int
    wrong_sentences: int
    ci95: tuple[float, float] | None = None
    unit: Unit = WORD

    @property
    def wer(self) -> float:
        """Error rate in percent: of words, or of characters where `unit` says so."""
        return 100.0 * self.counts.errors / self.counts.words

    @property
    def ser(self) -> float:
        """Sentence error rate in percent."""
        return 100.0 * self.wrong_sentences / self.sentences

    def wer_entry(self) -> WerEntry:
        """The entry of a set of words in a result file; the caller adds with what it was measured."""
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

    def cer_entry(self) -> CerEntry:
        """The same of a set of characters."""
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


def score(
    utterances: Sequence[Utterance], *, replications: int = REPLICATIONS, seed: int = 0, unit: Unit = WORD
) -> WerResult:
    """Error rates and bootstrap interval of utterances; several sets pool by putting them into one sequence.

    An utterance with an empty reference is scored: all words of its hypothesis are insertions.

    Args:
        utterances: references and hypotheses.
        replications: resampled sets for the interval; 0 leaves it out.
        seed: of the resampling.
        unit: what the utterances consist of (`slimasr.scoring.characters` makes characters of words).

    Raises:
        UserError: no utterance, or no word in any reference: the rate is undefined.
    """
    result = summarize([align(u) for u in utterances], unit)
    if not replications:
        return result
    return replace(result, ci95=wer_interval(utterances, replications=replications, seed=seed))


def summarize(alignments: Sequence[Alignment], unit: Unit = WORD) -> WerResult:
    """Error rates of aligned utterances, without interval.

    Raises:
        UserError: no utterance, or no word in any reference: the rate is undefined.
    """
    counts = total(alignments)
    if not counts.words:
        what = "no reference has a word" if alignments else "there is no utterance to score"
        raise UserError(f"{what}: the word error rate is undefined")
    wrong_sentences = sum(a.counts().errors > 0 for a in alignments)
    return WerResult(counts, len(alignments), wrong_sentences, unit=unit)
