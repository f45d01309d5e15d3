"""Recorded telephone prompts in five languages, one speaker each, 8 kHz: the core sounds of the Asterisk exchange.

Layout: ``LANG/audio/*.flac`` and ``LANG/prompts.tsv``: ``file`` and ``text`` between tabs, below a line of these names.
A set is a part of a language, such as ``dev-fr``. Of all prompts of a list, every tenth is in test, and the one after
it in dev.

Transcripts are in lower case without punctuation; apostrophes stay. Prompts whose text is not what is spoken are left
out: texts with symbols (``#``), and those that hold the names of other prompts (``vm-then-pound: ...``).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from slimasr.config.corpora import PromptsOptions
from slimasr.data.corpora.base import Corpus, ListedUtterance, Options, only_sets, parse_options, read_lines
from slimasr.errors import UserError

LANGUAGES = ("en", "es", "fr", "it", "ru")
LISTING = "prompts.tsv"
EVERY = 10
"""Distance of the prompts in test, and of those in dev."""

_HEADER = ["file", "text"]
# A prompt's name in a text, as in ``vm-then-pound:``.
_NAME = re.compile(r"[a-z]+(-[a-z]+)+:")
_APOSTROPHES = str.maketrans("’ʼ", "''")
_PUNCTUATION = re.compile(r"[.,;:!?…«»–-]")


def list_utterances(corpus_dir: Path, sets: Sequence[str], options: Options) -> dict[str, list[ListedUtterance]]:
    """List sets in the order of the corpus's lists."""
    parse_options(PromptsOptions, options, "prompts")
    found: dict[str, list[ListedUtterance]] = {
        f"{part}-{language}": [] for language in LANGUAGES for part in ("train", "dev", "test")
    }
    # Only the languages of these sets have to be there.
    for language in LANGUAGES:
        if any(name in found and name.endswith(f"-{language}") for name in sets):
            found |= _read_language(corpus_dir / language, language)
    return only_sets(found, sets, "prompts")


def normalise(text: str) -> str | None:
    """The words of a prompt, or None if they are not those that are spoken.

    ``Call-Forward on Busy.`` becomes ``call forward on busy``.
    """
    if _NAME.search(text):
        return None
    plain = unicodedata.normalize("NFC", text).translate(_APOSTROPHES).lower()
    words = _PUNCTUATION.sub(" ", plain).split()
    is_spoken = all(letter.isalpha() or letter == "'" for word in words for letter in word)
    return " ".join(words) if words and is_spoken else None


def _read_language(folder: Path, language: str) -> dict[str, list[ListedUtterance]]:
    header, *lines = read_lines(folder / LISTING)
    if header.text.split("\t") != _HEADER:
        raise UserError(f"{header.where}: expected the names of the columns, 'file' and 'text', with a tab between")
    found: dict[str, list[ListedUtterance]] = {f"{part}-{language}": [] for part in ("train", "dev", "test")}
    for number, line in enumerate(lines):
        fields = line.text.split("\t")
        if len(fields) != len(_HEADER):
            raise UserError(f"{line.where}: expected an audio file and its text, with a tab between")
        # Prompts that are left out are counted, so that the others do not change their sets.
        text = normalise(fields[1])
        if text is None:
            continue
        audio = folder / fields[0]
        utterance = ListedUtterance(
            id=f"{language}-{audio.stem}",
            audio=audio,
            text=text,
            speaker=f"prompts-{language}",
            language=language,
            source=line.where,
        )
        found[f"{_part(number)}-{language}"].append(utterance)
    return found


def _part(number: int) -> str:
    return {0: "test", 1: "dev"}.get(number % EVERY, "train")


CORPUS = Corpus("prompts", ("asterisk_prompts", "prompts"), f"*/{LISTING}", list_utterances)
