"""Multilingual LibriSpeech; a set is a part of a language: ``train-fr``, ``dev-fr``, ``test-fr``.

The training part has subsets for limited supervision, ``train9h-fr`` and ``train1h-fr`` (6 times 10 minutes).

Native layout, for each language: ``mls_french/{train,dev,test}/transcripts.txt`` (utterance, tab, text),
``audio/SPEAKER/BOOK/SPEAKER_BOOK_NNNNNN.flac`` beside it, and ``train/limited_supervision/{9hr,1hr/N}/handles.txt`` (an
utterance in each line). ``mls_french_opus`` is the same with compressed audio. The paths of audio files follow from the
names of utterances, so that the folders of audio, which are large, are never listed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from slimasr.config.corpora import MlsOptions
from slimasr.data.corpora.base import (
    Corpus,
    ListedUtterance,
    Options,
    parse_options,
    read_lines,
    read_transcripts,
)
from slimasr.errors import UserError
from slimasr.files import matching
from slimasr.textfiles import Line

LANGUAGES = {
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fr": "french",
    "it": "italian",
    "nl": "dutch",
    "pl": "polish",
    "pt": "portuguese",
}
"""Code of a language -> its name in the corpus."""

PARTS = ("train", "dev", "test")
LIMITED = {"train9h": "9hr/handles.txt", "train1h": "1hr/*/handles.txt"}
"""A subset of the training part -> the lists of its utterances, below ``limited_supervision``."""

ADDRESS = "https://dl.fbaipublicfiles.com/mls/{folder}.tar.gz"
_NAME = re.compile(r"(?P<speaker>[0-9]+)_(?P<book>[0-9]+)_[0-9]+")


def list_utterances(corpus_dir: Path, sets: Sequence[str], options: Options) -> dict[str, list[ListedUtterance]]:
    """List sets in the order of the corpus's own lists."""
    opus = parse_options(MlsOptions, options, "mls").opus
    parts: dict[Path, dict[str, ListedUtterance]] = {}
    found = {}
    for name in sets:
        part, language = _split(name)
        folder = _folder(corpus_dir, language, opus=opus)
        source = folder / ("train" if part in LIMITED else part)
        # A part is read once, however many sets are taken from it.
        if source not in parts:
            parts[source] = _read_part(source, language, opus=opus)
        found[name] = _limited(folder, part, parts[source]) if part in LIMITED else list(parts[source].values())
    return found


def _split(name: str) -> tuple[str, str]:
    """The part and the language of a set's name."""
    part, _, language = name.rpartition("-")
    if part not in (*PARTS, *LIMITED) or language not in LANGUAGES:
        raise UserError(
            f"data: corpus mls has no set {name!r}; its sets are {', '.join((*PARTS, *LIMITED))}, each with a language "
            f"({', '.join(LANGUAGES)}), such as train-fr"
        )
    return part, language


def _folder(corpus_dir: Path, language: str, *, opus: bool) -> Path:
    """The folder of a language; the option alone decides between its two variants, if both are there."""
    folder, other = (corpus_dir / _variant(language, opus=choice) for choice in (opus, not opus))
    if not folder.is_dir() and other.is_dir():
        choice = str(not opus).lower()
        raise UserError(f"{folder} is missing, but {other.name} is there: set data.options.opus to {choice} to use it")
    return folder


def _variant(language: str, *, opus: bool) -> str:
    return f"mls_{LANGUAGES[language]}{'_opus' if opus else ''}"


def _read_part(folder: Path, language: str, *, opus: bool) -> dict[str, ListedUtterance]:
    """Utterance id -> the utterance, of a part of a language."""
    transcripts = folder / "transcripts.txt"
    if not transcripts.exists():
        raise UserError(f"{transcripts} is missing: the corpus has no part {folder.name} of {LANGUAGES[language]}")
    suffix = ".opus" if opus else ".flac"
    found = {}
    for name, (text, line) in read_transcripts(read_lines(transcripts), _parse_line).items():
        speaker, book, _ = name.split("_")
        audio = folder / "audio" / speaker / book / f"{name}{suffix}"
        found[name] = ListedUtterance(name, audio, text, speaker, language, source=line.where)
    return found


def _parse_line(line: Line) -> tuple[str, str]:
    name, *rest = line.text.split(maxsplit=1)
    if _NAME.fullmatch(name) is None:
        raise UserError(f"{line.where}: expected 'SPEAKER_BOOK_NUMBER', a tab and the text, not {line.text[:80]!r}")
    return name, "".join(rest).strip()


def _limited(folder: Path, part: str, utterances: Mapping[str, ListedUtterance]) -> list[ListedUtterance]:
    """The utterances of a subset for limited supervision."""
    below = folder / "train" / "limited_supervision"
    lists = matching(below, LIMITED[part])
    if not lists:
        raise UserError(f"{below / LIMITED[part]} is missing: the corpus has no set {part} of {folder.name}")
    # Lists that overlap name an utterance once.
    chosen = {}
    for line in (line for path in lists for line in read_lines(path)):
        name = line.text.strip()
        if name not in utterances:
            raise UserError(f"{line.where}: {folder / 'train' / 'transcripts.txt'} has no utterance {name}")
        chosen[name] = utterances[name]
    return list(chosen.values())


def _holds(corpus_dir: Path, sets: Sequence[str], options: Options) -> bool:
    """Whether the languages of sets are there."""
    opus = parse_options(MlsOptions, options, "mls").opus
    return all((corpus_dir / _variant(_split(name)[1], opus=opus)).is_dir() for name in sets)


def _archives(sets: Sequence[str], options: Options) -> list[str]:
    opus = parse_options(MlsOptions, options, "mls").opus
    folders = dict.fromkeys(_variant(_split(name)[1], opus=opus) for name in sets)
    return [ADDRESS.format(folder=folder) for folder in folders]


CORPUS = Corpus("mls", ("mls",), "mls_*/*/transcripts.txt", list_utterances, _archives, _holds)
