"""Speech of the user's own: the sets of ``data.sources`` in the formats that `slimasr.data.own` reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slimasr.config.data import DataConfig
from slimasr.data.corpora.base import Corpus, ListedUtterance, Options


def list_utterances(corpus_dir: Path, sets: Sequence[str], options: Options) -> dict[str, list[ListedUtterance]]:
    """List nothing, as only a recipe has sources."""
    return {}


def configured(config: DataConfig) -> Corpus:
    """Return the corpus of a recipe's sources."""
    return CORPUS


CORPUS = Corpus("own", (), "", list_utterances, configured=configured)
