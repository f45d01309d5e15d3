"""The tiny corpus with a language for each speaker, and sets of single languages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slimasr.config.load import parse_config
from slimasr.config.schema import Config
from slimasr.data.corpora import an4
from slimasr.data.corpora.base import ListedUtterance, Options
from slimasr.data.features.stage import compute_features
from slimasr.data.manifests.stage import prepare
from slimasr.data.sets import further_sets
from slimasr.data.tokens.stage import train_tokenizer
from slimasr.data.tokens.tokenizer import Tokenizer
from tests.data.corpus import config, quiet

LANGUAGES = {"g": "fr", "h": "fr", "i": "fr", "j": "it"}
"""Last letter of a speaker's name -> language; the other speakers have en: 20, 12 and 4 training utterances."""


def speak_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tiny corpus have the sets train-en, train-fr and train-it, besides train, dev and test."""
    of_corpus = an4.CORPUS.list_parts

    def list_utterances(folder: Path, sets: Sequence[str], options: Options) -> dict[str, list[ListedUtterance]]:
        found = of_corpus(folder, ["train", "dev", "test"], options)
        spoken = {name: [in_language(item) for item in items] for name, items in found.items()}
        for language in ("en", "fr", "it"):
            spoken[f"train-{language}"] = [item for item in spoken["train"] if item.language == language]
        return {name: spoken[name] for name in sets}

    monkeypatch.setattr(an4, "CORPUS", replace(an4.CORPUS, list_parts=list_utterances))


def in_language(item: ListedUtterance) -> ListedUtterance:
    return replace(item, language=LANGUAGES.get(item.speaker[-1], "en"))


def recipe(data: dict[str, Any], **sections: dict[str, Any]) -> Config:
    """The recipe of the tiny corpus with changes of its sections."""
    tree = config(**data).model_dump(mode="json")
    return parse_config({**tree, **{name: {**tree[name], **section} for name, section in sections.items()}})


def stages(wanted: Config, data_dir: Path, corpus: Path) -> Tokenizer:
    """Stages 1 to 3, as the commands run them."""
    prepare(wanted.data, data_dir, corpus, False, quiet, further=further_sets(wanted))
    compute_features(wanted, data_dir, 1, quiet)
    return train_tokenizer(wanted, data_dir)
