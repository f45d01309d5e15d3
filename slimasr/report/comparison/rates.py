"""Error rates of single systems, and differences between those of two."""

from __future__ import annotations

from dataclasses import dataclass

from slimasr.results.report import ComparisonEntry, PhonemeDifference
from slimasr.results.schema import LanguageEntry, PerEntry, WerEntry


@dataclass(frozen=True)
class Rate:
    """An error rate of one subnet on one set: of words (WER), or of phonemes (PER).

    Attributes:
        rate: in percent.
        interval: ends of the 95 % bootstrap interval in percent, None if there is none.
        errors: number of errors.
        units: words or phonemes of the references.
        by_utterance: errors in the order of `Study.utterances` or `Study.phonemes`, empty if they were not kept.
        decoding: description of the search.
    """

    rate: float
    interval: tuple[float, float] | None
    errors: int
    units: int
    by_utterance: tuple[int, ...] = ()
    decoding: str = ""

    @property
    def low(self) -> float:
        """Lower end of the interval, the rate itself without one."""
        return self.rate if self.interval is None else self.interval[0]

    @property
    def high(self) -> float:
        """Upper end of the interval, the rate itself without one."""
        return self.rate if self.interval is None else self.interval[1]

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.rate:.2f}"
        return f"{self.rate:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class PhonemeComparison:
    """Two systems, compared by their phoneme errors.

    Attributes:
        per_a: PER of the first system in percent.
        per_b: PER of the second system in percent.
        delta: their difference, in points.
        low: lower end of the 95 % interval of ``delta``.
        high: upper end of the 95 % interval of ``delta``.
    """

    per_a: float
    per_b: float
    delta: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.delta:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


@dataclass(frozen=True)
class Comparison:
    """Two systems, compared on the same utterances.

    Attributes:
        a: role and subnet id of the first system.
        b: role and subnet id of the second system.
        sets: names of the sets, which are pooled.
        seeds: seeds that both systems have; their utterances are pooled.
        words: words of the references, counted once for every seed.
        wer_a: WER of ``a`` in percent.
        wer_b: WER of ``b`` in percent.
        delta: WER of ``a`` minus WER of ``b``, in points.
        low: lower end of the 95 % interval of ``delta``.
        high: upper end of the 95 % interval of ``delta``.
        paired: whether the interval is that of the paired bootstrap, not that of two independent systems.
        per: the comparison by phoneme errors, None if they are not known.
    """

    a: tuple[str, str]
    b: tuple[str, str]
    sets: tuple[str, ...]
    seeds: tuple[int, ...]
    words: int
    wer_a: float
    wer_b: float
    delta: float
    low: float
    high: float
    paired: bool = True
    per: PhonemeComparison | None = None

    def __str__(self) -> str:
        ends = f"{self.delta:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"
        return ends if self.paired else f"{ends} (unpaired)"


def difference_in_words(comparison: Comparison, a: str, b: str) -> str:
    """Write out both WERs, their difference and its interval, for systems called ``a`` and ``b``; PERs likewise."""
    text = f"{a} {comparison.wer_a:.2f} %, {b} {comparison.wer_b:.2f} %, difference {comparison}"
    per = comparison.per
    return text if per is None else f"{text}; PER {per.per_a:.2f} % and {per.per_b:.2f} %, difference {per}"


def wer_of(entry: WerEntry) -> Rate:
    """Convert an entry of words."""
    return Rate(entry.wer, entry.ci95, entry.errors, entry.words, entry.by_utterance, entry.decoding)


def language_wer(entry: LanguageEntry, whole: WerEntry) -> Rate:
    """Convert the entry of one language of a set."""
    return Rate(entry.wer, entry.ci95, entry.errors, entry.words, entry.by_utterance, whole.decoding)


def per_of(entry: PerEntry) -> Rate:
    """Convert an entry of phonemes."""
    return Rate(entry.per, entry.ci95, entry.errors, entry.phonemes, entry.by_utterance, entry.decoding)


def comparison_of(entry: ComparisonEntry) -> Comparison:
    """Convert a report's entry to a comparison."""
    low, high = entry.ci95
    return Comparison(
        a=entry.a.name,
        b=entry.b.name,
        sets=entry.sets,
        seeds=entry.seeds,
        words=entry.words,
        wer_a=entry.wer_a,
        wer_b=entry.wer_b,
        delta=entry.delta,
        low=low,
        high=high,
        paired=entry.paired,
        per=None if entry.per is None else _phoneme_comparison(entry.per),
    )


def _phoneme_comparison(entry: PhonemeDifference) -> PhonemeComparison:
    low, high = entry.ci95
    return PhonemeComparison(entry.per_a, entry.per_b, entry.delta, low, high)
