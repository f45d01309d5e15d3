"""The examples of docs/own_data.md are read as the page says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from slimasr.config.corpora import OwnOptions
from slimasr.data.own.find import detect
from slimasr.data.own.read import read_source

PAGE = (Path(__file__).parents[2] / "docs" / "own_data.md").read_text(encoding="utf-8")
Found = list[tuple[str, str, str, str, float, float | None]]


def example(begin: str) -> list[str]:
    """The lines of the example that begins so."""
    block = PAGE[PAGE.index(f"    {begin}") :].split("\n\n")[0]
    return [line.removeprefix("    ") for line in block.splitlines()]


def with_audio(folder: Path, *names: str) -> Path:
    """Write a second of audio under each name; where the page has MP3 or another folder, a WAV file in this one."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, np.full(8000, 0.1), 8000)
    return folder


def read(path: Path, kind: str, made: Path) -> Found:
    assert detect(path).name == kind
    found = read_source(path, OwnOptions(), made)
    return [(u.audio.name, u.text, u.speaker, u.language, u.start, u.duration) for u in found]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "source"


def test_a_folder(folder: Path, tmp_path: Path) -> None:
    for line in example("my/train/anna/hello.wav"):
        path, _, text = re.sub(r"\.mp3$", ".wav", line).removeprefix("my/train/").partition(" ")
        with_audio(folder, path) if path.endswith(".wav") else (folder / path).write_text(text.strip())
    expected = [("hello.wav", "Hello there!", "anna"), ("1.wav", "Good morning.", "ben")]
    assert [found[:3] for found in read(folder, "folder", tmp_path)] == expected


def test_a_table(folder: Path, tmp_path: Path) -> None:
    with_audio(folder, "clips/1.wav", "clips/2.wav")
    lines = example("path\tsentence")
    (folder / "all.tsv").write_text("\n".join(lines).replace(".mp3", ".wav"))
    assert read(folder / "all.tsv", "csv", tmp_path) == [
        ("1.wav", "Hello there!", "anna", "en", 0.0, None),
        ("2.wav", "Good morning.", "ben", "en", 0.0, None),
    ]


def test_json_lines(folder: Path, tmp_path: Path) -> None:
    with_audio(folder, "audio/1.wav", "audio/long.wav")
    (folder / "all.jsonl").write_text("\n".join(example('{"audio_filepath"')))
    assert read(folder / "all.jsonl", "jsonl", tmp_path) == [
        ("1.wav", "hello there", "anna", "en", 0.0, 1.7),
        ("long.wav", "good morning", "", OwnOptions().language, 12.5, 2.1),
    ]


def test_a_kaldi_data_directory(folder: Path, tmp_path: Path) -> None:
    with_audio(folder, "rec1.wav")
    for line in example("wav.scp "):
        name, rest = line.split(maxsplit=1)
        (folder / name).write_text(rest.replace("/data/audio", str(folder)) + "\n")
    assert read(folder, "kaldi", tmp_path) == [("rec1.wav", "HELLO THERE", "anna", OwnOptions().language, 0.5, 1.7)]
