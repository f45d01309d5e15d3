"""A folder that cannot be read is an error that names it: what is in it must not be left out unnoticed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slimasr.config.corpora import OwnOptions
from slimasr.config.data import DataConfig
from slimasr.data.augmentation.folders import list_folders
from slimasr.data.augmentation.musan import prepare_musan_cuts
from slimasr.data.corpora import CORPORA
from slimasr.data.files import DataFolder
from slimasr.data.own.read import read_source
from slimasr.errors import UserError
from slimasr.files import matching
from tests.data.own import write_lines, write_wav

Close = Callable[[Path], None]


@pytest.fixture
def close(monkeypatch: pytest.MonkeyPatch) -> Close:
    """A function that makes a folder unreadable, also for root, who may read everything."""

    def closing(folder: Path) -> None:
        for name in ("scandir", "listdir"):
            monkeypatch.setattr(os, name, _refusing(getattr(os, name), folder))

    return closing


def _refusing(original: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    def list_or_refuse(path: Any = ".") -> Any:
        if not isinstance(path, int) and Path(os.path.abspath(path)) == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return original(path)

    return list_or_refuse


def own(root: Path) -> None:
    list(read_source(root, OwnOptions(), root / "made"))


def own_top(root: Path) -> None:
    own(root / "ben")


def fsdd(root: Path) -> None:
    CORPORA["fsdd"].list_utterances(root, ("train",), {})


def librispeech(root: Path) -> None:
    CORPORA["librispeech"].list_utterances(root, ("dev-clean",), {})


def noise(root: Path) -> None:
    list_folders(DataConfig(corpus="an4", noise={"folder": str(root / "noise")}))  # type: ignore[arg-type]


def musan(root: Path) -> None:
    config = DataConfig(corpus="an4", musan={})  # type: ignore[arg-type]
    prepare_musan_cuts(config, DataFolder(root / "data"), root, root / "own", download=False)


@pytest.mark.parametrize(
    ("use", "closed"),
    [
        (own, "ben"),
        (own_top, "ben"),
        (fsdd, "recordings"),
        (librispeech, "LibriSpeech/dev-clean/2"),
        (noise, "noise/street"),
        (musan, "musan/music/b"),
    ],
)
def test_it_is_named(use: Callable[[Path], None], closed: str, tmp_path: Path, close: Close) -> None:
    for name in ("anna", "ben"):
        write_wav(tmp_path / name / "x.wav")
        write_lines(tmp_path / name / "x.txt", ["uno"])
    for name in ("recordings/0_ann_7.wav", "noise/street/a.wav", "noise/b.wav"):
        write_wav(tmp_path / name, 8000)
    for name in ("musan/noise/a/x.wav", "musan/music/b/y.wav"):
        write_wav(tmp_path / name, 8000)
    for speaker in "12":
        write_lines(tmp_path / f"LibriSpeech/dev-clean/{speaker}/3/{speaker}-3.trans.txt", [f"{speaker}-3-0 UNO"])
    close(tmp_path / closed)
    with pytest.raises(UserError, match=rf"{closed}: cannot be read \(Permission denied\); make it readable, or"):
        use(tmp_path if use is not librispeech else tmp_path / "LibriSpeech")


def test_patterns_match_as_those_of_pathlib(tmp_path: Path) -> None:
    for name in ("a/b/x.wav", "a/c/.y.wav", "a/x.wav", "d/e/z.txt", "f.wav", "[g]/h/i.wav"):
        write_lines(tmp_path / name, [])
    for pattern in ("*.wav", "*/*.wav", "*/*/*.wav", "a/*/*", "a/x.wav", "gone/*", "[!.]*/*/[!.]*.wav"):
        assert matching(tmp_path, pattern) == sorted(tmp_path.glob(pattern))
    assert matching(tmp_path / "gone", "*") == []


def test_a_transcript_that_is_no_file_is_named(tmp_path: Path) -> None:
    for name in "abcd":
        write_wav(tmp_path / f"{name}.wav")
    write_lines(tmp_path / "a.txt", ["uno"])
    (tmp_path / "b.txt").symlink_to("gone.txt")
    os.mkfifo(tmp_path / "c.lab")
    found = {item.id[-1]: item.source for item in read_source(tmp_path, OwnOptions(format="folder"), tmp_path / "made")}
    assert found["b"].endswith("b.wav (b.txt beside it is no file; replace it by one)")
    assert found["c"].endswith("c.wav (c.lab beside it is no file; replace it by one)")
    assert found["d"].endswith("d.wav (without d.txt or d.lab beside it)")
