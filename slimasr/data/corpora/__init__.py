"""The corpora that slimasr knows, and where they are found."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from slimasr.config.data import DataConfig
from slimasr.data.corpora.base import Corpus, ListedUtterance, Options, Progress
from slimasr.data.corpora.download import download_archives, wait_for_downloads
from slimasr.errors import UserError

__all__ = [
    "CORPORA",
    "CORPORA_VARIABLE",
    "Corpus",
    "ListedUtterance",
    "Options",
    "Progress",
    "corpus_of",
    "find_corpus",
]

CORPORA_VARIABLE = "SLIMASR_CORPORA"


class _Corpora(Mapping[str, Corpus]):
    """The corpora by name: ``CORPUS`` of the module of that name, which is imported when it is looked up.

    So a recipe does not load the code of other corpora, such as the speech synthesis of ``digits``.
    """

    _names = ("digits", "fsdd", "an4", "librispeech", "tedlium2", "mls", "spoken_digits", "prompts", "own")

    def __getitem__(self, name: str) -> Corpus:
        if name not in self._names:
            raise KeyError(name)
        corpus: Corpus = import_module(f"{__name__}.{name}").CORPUS
        return corpus

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


CORPORA = _Corpora()


def corpus_of(config: DataConfig) -> Corpus:
    """Return the corpus that a recipe reads."""
    corpus = CORPORA[config.corpus]
    return corpus if corpus.configured is None else corpus.configured(config)


def find_corpus(
    corpus: Corpus,
    corpus_dir: Path | None,
    own_dir: Path,
    sets: Sequence[str],
    options: Options,
    progress: Progress,
    download: bool = False,
) -> Path:
    """Return the corpus's folder: the one given, one below ``$SLIMASR_CORPORA``, or one of ``own_dir``.

    Args:
        corpus_dir: the folder that the user gives; a generated corpus is written there.
        own_dir: the folder for corpora that the recipe generates, derives or downloads.
        download: whether it may be downloaded.

    Raises:
        UserError: the corpus is not found; the message says what was tried.
    """
    # A generated corpus is never searched for: it is completed if it exists already.
    if corpus.generate is not None:
        target = corpus_dir or own_dir / corpus.name
        corpus.generate(target, options, progress)
        return target.resolve()
    found = _find_recorded(corpus, corpus_dir, own_dir, sets, options, download)
    if corpus.derive is None:
        return found
    return corpus.derive(found, own_dir / f"{corpus.name}_made", options, progress).resolve()


def _find_recorded(
    corpus: Corpus,
    corpus_dir: Path | None,
    own_dir: Path,
    sets: Sequence[str],
    options: Options,
    download: bool,
) -> Path:
    if corpus_dir is not None:
        found = corpus.locate(corpus_dir)
        if found is None:
            raise UserError(f"{corpus_dir}: no {corpus.name} corpus here (expected {corpus.marker})")
        return found
    shared = os.environ.get(CORPORA_VARIABLE)
    # Another process may be downloading the corpus at this moment.
    wait_for_downloads(own_dir / corpus.name)
    parents = [own_dir / corpus.name]
    if shared:
        parents.insert(0, Path(shared))
    for parent in parents:
        found = corpus.locate(parent)
        # What is missing of a folder that was found can only be downloaded if this is allowed.
        if found is not None and (not download or corpus.is_complete(found, sets, options)):
            return found
    if not download or corpus.archives is None:
        raise UserError(
            f"corpus {corpus.name} not found: give --corpus-dir, set {CORPORA_VARIABLE} to a folder with "
            f"{corpus.folders[0]}/, or allow --download"
        )
    download_archives(corpus.addresses(sets, options), own_dir / corpus.name)
    found = corpus.locate(own_dir / corpus.name)
    if found is None:
        raise UserError(f"{own_dir / corpus.name}: the downloaded archive holds no {corpus.name} ({corpus.marker})")
    return found
