"""Word error rates and their files in Kaldi's layouts. The package needs kaldialign and numpy, but not torch."""

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
