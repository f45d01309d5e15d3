"""The word error rate of a set of utterances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slimasr.errors import UserError
from slimasr.scoring.alignment import Alignment, EditCounts, Utterance, align, total
from slimasr.scoring.bootstrap import REPLICATIONS, wer_interval


@dataclass(frozen=True)
class WerResult:
    """Errors of a set of utterances.

    Attributes:
      counts: edits of all utterances.
      sentences: utterances scored.
      wrong_sentences: utterances with at least one error.
      ci95: 95 % bootstrap interval of the WER in percent, None where it was not asked for or does not exist.
    """

    counts: EditCounts
    sentences: int
    wrong_sentences: int
    ci95: tuple[float, float] | None = None

    @property
    def wer(self) -> float:
        """Word error rate in percent."""
        return 100.0 * self.counts.errors / self.counts.words

    @property
    def ser(self) -> float:
        """Sentence error rate in percent."""
        return 100.0 * self.wrong_sentences / self.sentences

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, the entry of a set in ``results.json``."""
        return {
            "wer": self.wer,
            "errors": self.counts.errors,
            "words": self.counts.words,
            "ins": self.counts.insertions,
            "del": self.counts.deletions,
            "sub": self.counts.substitutions,
            "ser": self.ser,
            "sentences": self.sentences,
            "ci95": None if self.ci95 is None else list(self.ci95),
        }


def score(utterances: Sequence[Utterance], *, replications: int = REPLICATIONS, seed: int = 0) -> WerResult:
    """WER, SER and bootstrap interval of utterances; several sets pool by putting them into one sequence.

    An utterance with an empty reference is scored: all words of its hypothesis are insertions.

    Args:
      utterances: references and hypotheses.
      replications: resampled sets for the interval; 0 leaves it out.
      seed: of the resampling.

    Raises:
      UserError: no utterance, or no word in any reference: the rate is undefined.
    """
    result = summarize([align(u) for u in utterances])
    if not replications:
        return result
    interval = wer_interval(utterances, replications=replications, seed=seed)
    return WerResult(result.counts, result.sentences, result.wrong_sentences, interval)


def summarize(alignments: Sequence[Alignment]) -> WerResult:
    """WER and SER of aligned utterances, without interval.

    Raises:
      UserError: no utterance, or no word in any reference: the rate is undefined.
    """
    counts = total(alignments)
    if not counts.words:
        what = "no reference has a word" if alignments else "there is no utterance to score"
        raise UserError(f"{what}: the word error rate is undefined")
    return WerResult(counts, len(alignments), sum(a.counts().errors > 0 for a in alignments))
