"""Corpus own: the same utterances in all formats, and what is particular to each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from slimasr.config.corpora import OwnOptions
from slimasr.config.data import DataConfig
from slimasr.data.audio import load_samples
from slimasr.data.corpora import ListedUtterance
from slimasr.data.manifests import build_cuts
from slimasr.data.own.find import detect
from slimasr.data.own.read import make_audio, read_source
from slimasr.progress import silent
from tests.data.own import (
    SPOKEN,
    WRITERS,
    write_audio,
)

FOUND = {"lhotse pair": "lhotse", "lhotse cuts": "lhotse", "nemo": "jsonl", "common voice": "csv", "commas": "csv"}


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audio")
    write_audio(folder)
    return folder


def listed(path: Path, made: Path, **options: Any) -> list[ListedUtterance]:
    """What a source lists, after its audio has been written."""
    parsed = OwnOptions(**options)
    make_audio(path, parsed, made, silent)
    return list(read_source(path, parsed, made))


@pytest.mark.parametrize("kind", WRITERS)
def test_all_formats_give_the_same_utterances_and_audio(kind: str, audio: Path, tmp_path: Path) -> None:
    path = WRITERS[kind](tmp_path / "train", audio)
    assert detect(path).name == FOUND.get(kind, kind)
    utterances = listed(path, tmp_path / "made")
    assert [(item.id, item.text, item.speaker, item.language) for item in utterances] == [
        (item.id, item.text, item.speaker, item.language) for item in SPOKEN
    ]
    # ``file:line``; tables have a header.
    numbers = [int(item.source.rpartition(":")[2]) for item in utterances]
    expected = {"csv": [2, 3, 4], "shar": [1, 2, 1]}.get(detect(path).name, [1, 2, 3])
    assert numbers == expected
    cuts, bad = build_cuts(utterances, DataConfig(corpus="own", sources={"train": str(path)}))
    assert not bad
    for cut, item in zip(cuts, SPOKEN, strict=True):
        samples, _ = soundfile.read(audio / item.file, dtype="float32")
        np.testing.assert_array_equal(load_samples(cut), samples[None])
