"""Word error rates as Kaldi users know them. A leaf: needs kaldialign and numpy, never torch."""

from slimasr.scoring.alignment import Alignment, EditCounts, Utterance, align, word_errors
from slimasr.scoring.bootstrap import PairedComparison, compare
from slimasr.scoring.transcripts import Paired, pair, read_text, read_utt2spk
from slimasr.scoring.wer import WerResult, score

__all__ = [
    "Alignment",
    "EditCounts",
    "Paired",
    "PairedComparison",
    "Utterance",
    "WerResult",
    "align",
    "compare",
    "pair",
    "read_text",
    "read_utt2spk",
    "score",
    "word_errors",
]
