"""Write and read ``recogs`` and ``errs`` files in icefall's layout, so that scripts for icefall can read them."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from slimasr.errors import UserError
from slimasr.scoring.alignment import Alignment, Utterance, total
from slimasr.scoring.wer import WORD, Unit, summarize
from slimasr.textfiles import Line, read_lines

_NOTHING = "*"


def recogs(utterances: Sequence[Utterance]) -> str:
    """Format two lines per utterance, its reference and its hypothesis as lists of words, sorted by id."""
    ordered = sorted(utterances, key=lambda utterance: utterance.id)
    # Lists in Python's notation, as icefall writes them.
    return "".join(f"{u.id}:\tref={list(u.ref)}\n{u.id}:\thyp={list(u.hyp)}\n" for u in ordered)


def read_recogs(path: Path) -> list[Utterance]:
    """Read the utterances of a ``recogs`` file.

    Raises:
        UserError: the file is missing, unreadable or empty, a line has another layout, or an id occurs twice.
    """
    lines = read_lines(path)
    if not lines or len(lines) % 2:
        raise UserError(f"{path}: expected two lines (ref, hyp) per utterance; decode again")
    utterances = {}
    for ref_line, hyp_line in zip(lines[::2], lines[1::2], strict=True):
        ref_id, ref = _parse(ref_line, "ref")
        hyp_id, hyp = _parse(hyp_line, "hyp")
        if ref_id != hyp_id or ref_id in utterances:
            raise UserError(f"{hyp_line.where}: utterance {hyp_id} is out of place or comes twice")
        utterances[ref_id] = Utterance(ref_id, ref, hyp)
    return list(utterances.values())


def errs(alignments: Sequence[Alignment], unit: Unit = WORD) -> str:
    """Format the error rate, every utterance with its errors marked, and the frequencies of all edits.

    Raises:
        UserError: no reference has a word.
    """
    counts = total(alignments)
    wer = summarize(alignments).wer
    lines = [
        f"%{unit.rate.upper()} = {wer:.2f}",
        f"Errors: {counts.insertions} insertions, {counts.deletions} deletions, {counts.substitutions} "
        f"substitutions, over {counts.words} reference {unit.name}s ({counts.correct} correct)",
        "Search below for sections starting with PER-UTT DETAILS:, SUBSTITUTIONS:, DELETIONS:, INSERTIONS:, "
        "PER-WORD STATS:",
        "",
        # The spaces at the end are icefall's own.
        "PER-UTT DETAILS: corr or (ref->hyp)  ",
        *(f"{a.id}:\t{' '.join(_marked(a))}" for a in alignments),
        *_confusions(alignments),
        "",
        "PER-WORD STATS: word  corr tot_errs count_in_ref count_in_hyp",
        *_word_statistics(alignments),
    ]
    return "".join(f"{line}\n" for line in lines)


def _parse(line: Line, kind: str) -> tuple[str, tuple[str, ...]]:
    utterance, _, words = line.text.partition(f":\t{kind}=")
    try:
        # Only literals: nothing in the file is executed.
        parsed = ast.literal_eval(words)
    except (ValueError, SyntaxError):
        parsed = None
    if not utterance or not isinstance(parsed, list) or not all(isinstance(word, str) for word in parsed):
        raise UserError(f"{line.where}: expected '<utterance id>:<tab>{kind}=[...]'; decode again")
    return utterance, tuple(parsed)


def _marked(alignment: Alignment) -> Iterator[str]:
    """Yield correct words unchanged, and adjacent errors together as ``(ref->hyp)`` with ``*`` for an empty side."""
    # Runs of pairs that are all correct, or all errors.
    for correct, group in groupby(alignment.pairs, key=lambda pair: pair[0] == pair[1]):
        refs, hyps = zip(*group, strict=True)
        words = [word for word in refs if word is not None]
        if correct:
            yield from words
        else:
            recognised = [word for word in hyps if word is not None]
            yield f"({' '.join(words) or _NOTHING}->{' '.join(recognised) or _NOTHING})"


def _confusions(alignments: Sequence[Alignment]) -> list[str]:
    pairs = (pair for alignment in alignments for pair in alignment.pairs)
    edits = Counter((ref, hyp) for ref, hyp in pairs if ref != hyp)
    sections: tuple[tuple[str, dict[str, int]], ...] = (
        ("SUBSTITUTIONS: count ref -> hyp", {f"{ref} -> {hyp}": n for (ref, hyp), n in edits.items() if ref and hyp}),
        ("DELETIONS: count ref", {str(ref): n for (ref, hyp), n in edits.items() if hyp is None}),
        ("INSERTIONS: count hyp", {str(hyp): n for (ref, hyp), n in edits.items() if ref is None}),
    )
    lines: list[str] = []
    for title, counts in sections:
        # The most frequent first; among equal counts in reverse alphabetical order, as icefall does.
        ranked = sorted(((n, what) for what, n in counts.items()), reverse=True)
        lines += ["", title, *(f"{n}   {what}" for n, what in ranked)]
    return lines


def _word_statistics(alignments: Sequence[Alignment]) -> Iterator[str]:
    pairs = [pair for a in alignments for pair in a.pairs]
    correct = Counter(r for r, h in pairs if r == h)
    in_ref = Counter(r for r, _ in pairs if r)
    in_hyp = Counter(h for _, h in pairs if h)
    # Occurrences on either side that are not correct; a substitution counts for both of its words.
    errors = {word: in_ref[word] + in_hyp[word] - 2 * correct[word] for word in in_ref | in_hyp}
    for number, word in sorted(((n, word) for word, n in errors.items()), reverse=True):
        yield f"{word}   {correct[word]} {number} {in_ref[word]} {in_hyp[word]}"
