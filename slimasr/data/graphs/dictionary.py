"""Pronunciation dictionaries in the form of CMU's: one pronunciation a line, ``WORD(2)  P H O N E S``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from slimasr.errors import UserError
from slimasr.textfiles import Line, read_lines

Pronunciation = tuple[str, ...]
Pronunciations = Mapping[str, tuple[Pronunciation, ...]]
"""Word -> its pronunciations, the most usual one first."""

END_OF_WORD = "#"
"""Marks the last phoneme of a word, and begins a comment in dictionaries; phonemes must not hold it."""

_VARIANT = re.compile(r"(?P<word>.+)\((?P<number>\d+)\)")
_COMMENT = ";;;"
# Silence and sentence marks, which dictionaries of recognisers list, are no words of transcripts.
_NO_WORDS = frozenset({"<s>", "</s>", "<sil>", "<eps>", "<unk>", "<blk>", "<sos/eos>"})
_STRESS = "0123456789"


def read_dictionary(path: Path, *, stress: bool = True) -> Pronunciations:
    """Read a dictionary: per line a word and its phonemes, separated by white space.

    A word may have several lines, the further ones with ``(2)``, ``(3)``, ... behind the word or without. Lines that
    begin with ``;;;`` and what follows ``#`` are comments. Marks of sentences and silence such as ``<s>`` are skipped.

    Args:
        path: UTF-8 text.
        stress: whether digits at the end of phonemes, with which CMU marks stress, are kept.

    Raises:
        UserError: the file is missing or holds no word, or a line has a word without phonemes.
    """
    if not path.is_file():
        raise UserError(f"tokenizer.lexicon: {path}: there is no such dictionary")
    numbered: dict[str, dict[Pronunciation, int]] = {}
    for line in read_lines(path):
        fields = line.text.split()
        if not fields or fields[0].startswith(_COMMENT):
            continue
        word, number = _variant(fields[0])
        if word in _NO_WORDS:
            continue
        # A pronunciation that is given twice keeps its first number.
        numbered.setdefault(word, {}).setdefault(_phonemes(line, fields[1:], stress), number)
    if not numbered:
        raise UserError(f"tokenizer.lexicon: {path}: the dictionary holds no word")
    # Equal numbers keep the order of the lines.
    return {word: tuple(sorted(found, key=lambda item: found[item])) for word, found in numbered.items()}


def spell(words: Iterable[str]) -> Pronunciations:
    """Words that are pronounced as they are written, one phoneme per character."""
    return {word: (tuple(word),) for word in words}


def mark_word_ends(pronunciations: Pronunciations) -> Pronunciations:
    """The same pronunciations, the last phoneme of each with `END_OF_WORD`."""
    return {
        word: tuple((*phonemes[:-1], phonemes[-1] + END_OF_WORD) for phonemes in variants)
        for word, variants in pronunciations.items()
    }


def _variant(field: str) -> tuple[str, int]:
    """Split ``WORD(2)`` into the word and its number, which is 1 without brackets."""
    match = _VARIANT.fullmatch(field)
    return (field, 1) if match is None else (match["word"], int(match["number"]))


def _phonemes(line: Line, fields: list[str], stress: bool) -> Pronunciation:
    comment = next((place for place, field in enumerate(fields) if field.startswith(END_OF_WORD)), len(fields))
    found = fields[:comment]
    if not found:
        raise UserError(f"{line.where}: the word has no phonemes: {line.text.strip()!r}")
    for phoneme in found:
        if END_OF_WORD in phoneme or phoneme.startswith("<"):
            raise UserError(f"{line.where}: {phoneme!r} is no name for a phoneme; rename it")
    # A phoneme that consists of digits alone, such as a tone, keeps them.
    return tuple(found) if stress else tuple(phoneme.rstrip(_STRESS) or phoneme for phoneme in found)
