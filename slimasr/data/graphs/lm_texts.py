"""The sentences on which a recipe's language model is trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from slimasr.config.schema import Config
from slimasr.data.corpora.named_files import named_paths
from slimasr.data.files import DataFolder
from slimasr.data.graphs.arpa import SENTENCE_END, SENTENCE_START, open_text
from slimasr.data.graphs.lexicon_source import train_texts
from slimasr.errors import UserError

KEY = "language_model.texts"


def text_files(config: Config, folder: DataFolder) -> list[Path]:
    """The files of ``language_model.texts``, each once.

    Raises:
        UserError: a name stands for no file.
    """
    found = [path for name in config.language_model.texts for path in named_paths(name, folder, KEY)]
    return list(dict.fromkeys(found))


def language_model_texts(config: Config, folder: DataFolder) -> Iterator[str]:
    """Yield all training transcripts, then lines of the further texts, evenly spread so that the words are few enough.

    Raises:
        UserError: a file is missing, damaged or no UTF-8 text.
    """
    words = 0
    for text in train_texts(config, folder):
        words += len(text.split())
        yield text
    files = text_files(config, folder)
    if files:
        yield from every_nth(files, config.language_model.max_words - words)


def every_nth(files: Sequence[Path], max_words: int) -> Iterator[str]:
    """Yield lines of text files at equal distances, all of them if they have at most so many words."""
    total = sum(len(line.split()) for line in _lines(files))
    if max_words <= 0 or total == 0:
        return
    distance = math.ceil(total / max_words)
    for number, line in enumerate(_lines(files)):
        if number % distance == 0:
            yield line


def _lines(files: Sequence[Path]) -> Iterator[str]:
    """The lines of files, without the marks of sentences that texts for language models may have."""
    for path in files:
        try:
            with open_text(path) as file:
                for line in file:
                    yield " ".join(word for word in line.split() if word not in (SENTENCE_START, SENTENCE_END))
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise UserError(f"{KEY}: {path}: cannot be read ({error}); it needs to be UTF-8 text") from None
