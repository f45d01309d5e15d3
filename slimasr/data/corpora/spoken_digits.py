"""Recorded digits at 8 kHz, English and Arabic: one word each, or strings of recordings of one speaker.

The folder holds two corpora in their native layouts: ``fsdd`` (see `slimasr.data.corpora.fsdd`) and ``arabic_digits``
or, if this is missing, ``arabic_speech_commands_mini`` (16 kHz, of whose words the digits are read). The Arabic ones
have ``dataset/WORD/SPEAKER_NO_ROUND.flac`` or ``.wav``, and ``train.csv``, ``val.csv``, ``test.csv`` (``file,class``)
with the English word as class. Sets are ``train-en``, ``dev-en``, ``test-en``, ``train-ar`` and so on. English speakers
are in all sets, Arabic ones in one set only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from slimasr.config.corpora import SpokenDigitsOptions
from slimasr.data.corpora import fsdd
from slimasr.data.corpora.base import (
    Corpus,
    ListedUtterance,
    Options,
    Progress,
    only_sets,
    parse_options,
    read_lines,
    refuse_contradictions,
)
from slimasr.data.corpora.digit_strings import list_strings, make_strings
from slimasr.data.synthesis.digit_languages import DIGIT_LANGUAGES, ENGLISH
from slimasr.errors import UserError

ARABIC = "ar"
ENGLISH_FOLDER = "fsdd"
ARABIC_FOLDERS = ("arabic_digits", "arabic_speech_commands_mini")
PARTS = {"train": "train", "dev": "val", "test": "test"}
"""A part of a language -> its name in the Arabic corpora."""

LANGUAGES = (ENGLISH, ARABIC)
SETS = tuple(f"{part}-{language}" for language in LANGUAGES for part in PARTS)

Sets = dict[str, list[ListedUtterance]]
_HEADER = "file,class"


def list_utterances(corpus_dir: Path, sets: Sequence[str], options: Options) -> Sets:
    """List recordings in the order of their own lists, or the strings that `derive` has made."""
    parsed = parse_options(SpokenDigitsOptions, options, "spoken_digits")
    if parsed.strings:
        found = list_strings(corpus_dir, SETS)
    else:
        found = {name: [] for name in SETS}
        # Only the languages of these sets have to be there.
        for language in LANGUAGES:
            if any(name in SETS and name.endswith(f"-{language}") for name in sets):
                found |= _recordings(corpus_dir, language)
    refuse_contradictions(found)
    return only_sets(found, sets, "spoken_digits")


def derive(source: Path, target: Path, options: Options, progress: Progress) -> Path:
    """Make strings of the recordings in ``source``, if options ask for them; return the folder to list.

    Raises:
        UserError: a recording or list cannot be read.
    """
    parsed = parse_options(SpokenDigitsOptions, options, "spoken_digits")
    if not parsed.strings:
        return source
    there = [language for language in LANGUAGES if _folder(source, language).is_dir()]
    recordings = {name: items for language in there for name, items in _recordings(source, language).items()}
    make_strings(target, recordings, parsed, progress)
    return target


def _folder(corpus_dir: Path, language: str) -> Path:
    """The folder of a language's own corpus; the preferred one if there is none."""
    folders = [corpus_dir / name for name in ((ENGLISH_FOLDER,) if language == ENGLISH else ARABIC_FOLDERS)]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _recordings(corpus_dir: Path, language: str) -> Sets:
    """The sets of a language."""
    folder = _folder(corpus_dir, language)
    if not folder.is_dir():
        raise UserError(f"{folder} is missing, from which corpus spoken_digits reads language {language}")
    if language == ENGLISH:
        found = fsdd.list_utterances(folder, tuple(PARTS), {})
        return {f"{part}-{ENGLISH}": [replace(item, language=ENGLISH) for item in found[part]] for part in PARTS}
    return {f"{part}-{ARABIC}": list(_read_arabic(folder, listed)) for part, listed in PARTS.items()}


def _read_arabic(folder: Path, part: str) -> Iterable[ListedUtterance]:
    header, *lines = read_lines(folder / f"{part}.csv")
    if header.text.strip() != _HEADER:
        raise UserError(f"{header.where}: expected the names of the columns, '{_HEADER}'")
    for line in lines:
        file, separator, word = line.text.strip().rpartition(",")
        audio = folder / file
        speaker, _, number = audio.stem.partition("_NO_")
        if not separator or not speaker or not number:
            raise UserError(f"{line.where}: expected 'dataset/WORD/SPEAKER_NO_ROUND.wav,WORD', not {line.text!r}")
        # The corpus has other words besides digits.
        if word not in DIGIT_LANGUAGES[ENGLISH].words:
            continue
        digit = DIGIT_LANGUAGES[ENGLISH].words.index(word)
        text = DIGIT_LANGUAGES[ARABIC].words[digit]
        yield ListedUtterance(f"{speaker}_{digit}_{number}", audio, text, speaker, ARABIC, source=line.where)


CORPUS = Corpus(
    "spoken_digits",
    ("spoken_digits",),
    f"{ENGLISH_FOLDER}/recordings/*.wav",
    list_utterances,
    derive=derive,
)
