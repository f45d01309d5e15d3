"""The examples of docs/own_data.md are read as the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from slimasr.config.corpora import OwnOptions
from slimasr.data.own.find import detect
from slimasr.data.own.read import make_audio, read_source
from slimasr.progress import silent

PAGE = (Path(__file__).parents[2] / "docs" / "own_data.md").read_text(encoding="utf-8")
Found = list[tuple[str, str, str, str, float, float | None]]


def example(begin: str) -> list[str]:
    """The lines of the example that begins so."""
    block = PAGE[PAGE.index(f"\n    {begin}") + 1 :].split("\n\n")[0]
    return [line.removeprefix("    ") for line in block.splitlines()]


def with_audio(folder: Path, *names: str, seconds: int = 1, rate: int = 8000) -> Path:
    """Write a ramp of audio under each name; where the page has MP3 or another folder, a WAV file in this one."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, np.linspace(0.1, 0.5, seconds * rate), rate)
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


def test_lists_of_transcripts(folder: Path, tmp_path: Path) -> None:
    listed, texts = "", []
    for line in example("my/train/12/34/12-34.trans.txt"):
        path, _, text = line.removeprefix("my/train/").partition(" ")
        if path.endswith(".flac"):
            with_audio(folder, path)
        else:
            listed = path or listed
            texts.append(text.strip())
    (folder / listed).write_text("\n".join(texts))
    assert [found[:3] for found in read(folder, "folder", tmp_path)] == [
        ("12-34-0000.flac", "HELLO THERE", "12"),
        ("12-34-0001.flac", "GOOD MORNING", "12"),
    ]


def test_a_table_with_quotes(folder: Path, tmp_path: Path) -> None:
    with_audio(folder, "long.wav")
    lines = example("file,start")
    (folder / "all.csv").write_text("\n".join(lines))
    language = OwnOptions().language
    expected = [
        ("long.wav", "Hello, there!", "anna", language, 0.5, 1.7),
        ("long.wav", 'Say "please".', "ben", language, 12.5, 2.1),
    ]
    assert read(folder / "all.csv", "csv", tmp_path) == expected
    # Bars separate as well, and quotes mean nothing then.
    rows = ["file|transcript", 'long.wav|Say "please", now.']
    (folder / "bars.csv").write_text("\n".join(rows))
    assert read(folder / "bars.csv", "csv", tmp_path)[0][:2] == ("long.wav", 'Say "please", now.')


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


def lhotse_file(folder: Path, name: str) -> None:
    """Write a manifest of one item, whose line the page breaks."""
    page = example(f"{name} ")
    first = next(number for number, line in enumerate(page) if line.startswith(name))
    following = next((n for n, line in enumerate(page[first + 1 :], first + 1) if not line.startswith(" ")), None)
    item = " ".join(page[first:following]).removeprefix(name)
    (folder / name).write_text(json.dumps(json.loads(item)) + "\n")


def test_lhotse_manifests(folder: Path, tmp_path: Path) -> None:
    with_audio(folder, "audio/rec1.wav", seconds=10, rate=16000)
    expected = [("rec1.wav", "hello there", "anna", "en", 0.5, 1.7)]
    lhotse_file(folder, "train.jsonl")
    assert read(folder / "train.jsonl", "lhotse", tmp_path) == expected
    (folder / "train.jsonl").unlink()
    lhotse_file(folder, "recordings.jsonl")
    lhotse_file(folder, "supervisions.jsonl")
    assert read(folder, "lhotse", tmp_path) == expected


def test_shar(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example makes Shar of the example of cuts, with the names that the page lists."""
    monkeypatch.chdir(with_audio(tmp_path, "audio/rec1.wav", seconds=10, rate=16000))
    (tmp_path / "my" / "train").mkdir(parents=True)
    lhotse_file(tmp_path / "my", "train.jsonl")
    exec("\n".join(example("from lhotse")), {})
    train = tmp_path / "my" / "train"
    assert sorted(str(path.relative_to(tmp_path)) for path in train.iterdir()) == example("my/train/cuts.")
    make_audio(train, OwnOptions(), tmp_path / "made", silent)
    ((name, *found),) = read(train, "shar", tmp_path / "made")
    assert found == ["hello there", "anna", "en", 0.0, None]
    made = next(path for path in (tmp_path / "made").rglob(name))
    whole, part = soundfile.read(tmp_path / "audio" / "rec1.wav")[0], soundfile.read(made)[0]
    np.testing.assert_allclose(part, whole[8000 : 8000 + 27200], atol=1e-4)
