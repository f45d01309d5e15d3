"""The corpora slimasr knows, and where they are found."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from slimasr.data.corpora.an4 import AN4
from slimasr.data.corpora.base import Corpus, Options, Progress, Utterance
from slimasr.data.corpora.digits import DIGITS
from slimasr.data.corpora.fsdd import FSDD
from slimasr.data.corpora.librispeech import LIBRISPEECH
from slimasr.data.download import download_archives, wait_for_downloads
from slimasr.errors import UserError

__all__ = ["CORPORA", "CORPORA_VARIABLE", "Corpus", "Options", "Progress", "Utterance", "find_corpus"]

CORPORA = {corpus.name: corpus for corpus in (DIGITS, FSDD, AN4, LIBRISPEECH)}
CORPORA_VARIABLE = "SLIMASR_CORPORA"


def find_corpus(
    corpus: Corpus,
    corpus_dir: Path | None,
    own_dir: Path,
    sets: Sequence[str],
    options: Options,
    progress: Progress,
    download: bool = False,
) -> Path:
    """The corpus's folder: given, below ``$SLIMASR_CORPORA``, made or downloaded before, or now.

    Args:
        corpus_dir: where the user says it is; generated corpora are made there.
        own_dir: where the recipe keeps corpora that it makes or downloads.
        download: whether it may be downloaded.

    Raises:
        UserError: it is nowhere; the message says what was tried.
    """
    if corpus.generate is not None:
        target = corpus_dir or own_dir / corpus.name
        corpus.generate(target, options, progress)
        return target.resolve()
    if corpus_dir is not None:
        found = corpus.locate(corpus_dir)
        if found is None:
            raise UserError(f"{corpus_dir}: no {corpus.name} corpus here (expected {corpus.marker})")
        return found
    shared = os.environ.get(CORPORA_VARIABLE)
    wait_for_downloads(own_dir / corpus.name)
    for parent in ([Path(shared)] if shared else []) + [own_dir / corpus.name]:
        found = corpus.locate(parent)
        if found is not None:
            return found
    if not download or corpus.archives is None:
        raise UserError(
            f"corpus {corpus.name} not found: give --corpus-dir, set {CORPORA_VARIABLE} to a folder with "
            f"{corpus.folders[0]}/, or allow --download"
        )
    download_archives(corpus.archives(sets), own_dir / corpus.name)
    found = corpus.locate(own_dir / corpus.name)
    if found is None:
        raise UserError(f"{own_dir / corpus.name}: the downloaded archive holds no {corpus.name} ({corpus.marker})")
    return found
