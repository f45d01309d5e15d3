"""Write what Kaldi's scoring scripts write: the ``%WER`` line and the files ``per_utt``, ``per_spk`` and ``ops``.

The layouts are those of ``compute-wer``, ``wer_per_utt_details.pl``, ``wer_per_spk_details.pl`` and
``wer_ops_details.pl``, so that scripts that read Kaldi's files read these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from slimasr.errors import UserError
from slimasr.scoring.alignment import Alignment, EditCounts
from slimasr.scoring.wer import WORD, Unit, WerResult

EPSILON = "<eps>"
_SPEAKER_WIDTH = 15
_MAX_WORD_WIDTH = 16
_SPEAKER_COLUMNS = ("Corr", "Sub", "Ins", "Del", "Err", "S.Err")
_UNIT_COLUMNS = {"word": "#WORD", "character": "#CHAR", "phoneme": "#PHONE"}
_OPERATION_NAMES = {"C": "correct", "S": "substitution", "I": "insertion", "D": "deletion"}


def wer_lines(result: WerResult, missing: int = 0) -> str:
    """Format the three lines of ``compute-wer``, for characters with ``%CER`` and for phonemes with ``%PER``.

    Args:
        result: the score to print.
        missing: number of utterances without a hypothesis, which were scored as empty.
    """
    edits = result.counts
    partial = " [PARTIAL]" if missing else ""
    rate = result.unit.rate.upper()
    return (
        f"%{rate} {result.wer:.2f} [ {edits.errors} / {edits.words}, {edits.insertions} ins, {edits.deletions} del, "
        f"{edits.substitutions} sub ]{partial}\n"
        f"%SER {result.ser:.2f} [ {result.wrong_sentences} / {result.sentences} ]\n"
        f"Scored {result.sentences} sentences, {missing} not present in hyp.\n"
    )


def per_utt(alignments: Iterable[Alignment]) -> str:
    """Format ``ref``, ``hyp``, ``op`` and ``#csid`` lines per utterance; the words of a pair are in one column."""
    return "".join(_utterance_lines(a) for a in alignments)


def per_spk(alignments: Iterable[Alignment], utt2spk: Mapping[str, str], unit: Unit = WORD) -> str:
    """Format counts (``raw``) and percentages (``sys``) per speaker and for all (``SUM``).

    Raises:
        UserError: an utterance has no speaker.
    """
    edits_of: dict[str, list[EditCounts]] = {}
    for alignment in alignments:
        if alignment.id not in utt2spk:
            raise UserError(f"utterance {alignment.id} is not in utt2spk: add its speaker")
        edits_of.setdefault(utt2spk[alignment.id], []).append(alignment.counts())
    # Kaldi's column is 15 wide; it becomes wider for longer speaker names.
    width = max([_SPEAKER_WIDTH, *map(len, utt2spk.values())])
    columns = ("#SENT", _UNIT_COLUMNS[unit.name], *_SPEAKER_COLUMNS)
    rows = [f"{'SPEAKER':<{width}} id  " + " ".join(f"{c:>10}" for c in columns)]
    for speaker in sorted(edits_of):
        rows += _speaker_lines(f"{speaker:<{width}}", edits_of[speaker])
    rows += _speaker_lines(f"{'SUM':<{width}}", list(chain.from_iterable(edits_of.values())))
    return "".join(f"{row}\n" for row in rows)


def ops(alignments: Iterable[Alignment]) -> str:
    """Format how often each word was recognised, replaced by each other word, deleted, and inserted."""
    edits = Counter(
        (ref or EPSILON, hyp or EPSILON, operation)
        for a in alignments
        for (ref, hyp), operation in zip(a.pairs, a.operations(), strict=True)
    )
    longest = max((len(word) for ref, hyp, _ in edits for word in (ref, hyp)), default=0)
    # Longer words exceed their column, as in Kaldi.
    width = min(longest, _MAX_WORD_WIDTH)
    digits = max((len(str(n)) for n in edits.values()), default=0)
    return "".join(
        f"{_OPERATION_NAMES[operation]:<12}  {ref:>{width}}    {hyp:>{width}}    {count:>{digits}}\n"
        for (ref, hyp, operation), count in sorted(edits.items())
    )


def _utterance_lines(alignment: Alignment) -> str:
    operations = alignment.operations()
    columns = [
        _centre((ref or EPSILON, hyp or EPSILON, operation))
        for (ref, hyp), operation in zip(alignment.pairs, operations, strict=True)
    ]
    # Columns of (ref, hyp, op) become three rows; an utterance without a word on either side has empty ones.
    rows = zip(*columns, strict=True) if columns else ((), (), ())
    labels = ("ref  ", "hyp  ", "op   ")
    lines = [f"{alignment.id} {label}{'  '.join(row)}" for label, row in zip(labels, rows, strict=True)]
    csid = " ".join(str(operations.count(name)) for name in "CSID")
    return "".join(f"{line}\n" for line in (*lines, f"{alignment.id} #csid {csid}"))


def _centre(words: Sequence[str]) -> list[str]:
    """Pad words to the longest one; of an odd number of spaces the left side gets one more, as in Kaldi."""
    width = max(map(len, words))
    return [(word + " " * ((width - len(word)) // 2)).rjust(width) for word in words]


def _speaker_lines(label: str, utterances: Sequence[EditCounts]) -> list[str]:
    counts = sum(utterances, EditCounts())
    sentences = len(utterances)
    wrong = sum(edits.errors > 0 for edits in utterances)
    edits = (counts.correct, counts.substitutions, counts.insertions, counts.deletions, counts.errors)
    raw = f"{label} raw " + " ".join(f"{n:>10}" for n in (sentences, counts.words, *edits, wrong))
    # Percentages of a speaker whose references are all empty are undefined.
    if not counts.words:
        return [raw]
    # S.Err is a percentage of sentences, all others are percentages of words.
    percentages = [100.0 * n / counts.words for n in edits] + [100.0 * wrong / sentences]
    columns = " ".join(f"{value:>10.2f}" for value in percentages)
    return [raw, f"{label} sys {sentences:>10} {counts.words:>10} {columns}"]
