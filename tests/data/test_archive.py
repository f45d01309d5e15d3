"""Archives: honest ones are unpacked, hostile ones refused before anything is written."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from slimasr.data.corpora.archive import unpack
from slimasr.errors import UserError


def _tar(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        good = tarfile.TarInfo("corpus/good.txt")
        good.size = 4
        tar.addfile(good, io.BytesIO(b"good"))
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def _zip(path: Path, name: str, mode: int = 0o100644) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("corpus/good.txt", "good")
        info = zipfile.ZipInfo(name)
        info.filename = name  # ZipInfo cleans names; an attacker does not
        info.external_attr = mode << 16
        file.writestr(info, "bad")
    return path


def _everything_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("make", ["tar", "zip"])
def test_an_honest_archive_is_unpacked(tmp_path: Path, make: str) -> None:
    if make == "tar":
        archive = _tar(tmp_path / "a.tar.gz", _member("corpus/sub", tarfile.DIRTYPE), _member("corpus/sub/x"))
    else:
        archive = _zip(tmp_path / "a.zip", "corpus/sub/x")
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "corpus" / "good.txt").read_text() == "good"
    assert (tmp_path / "out" / "corpus" / "sub" / "x").is_file()


@pytest.mark.parametrize(
    "member",
    [
        _member("/tmp/absolute"),
        _member("../climbs"),
        _member("corpus/../../climbs"),
        _member("corpus/link", tarfile.SYMTYPE, "/etc/passwd"),
        _member("corpus/inner_link", tarfile.SYMTYPE, "good.txt"),
        _member("corpus/hard", tarfile.LNKTYPE, "corpus/good.txt"),
        _member("corpus/device", tarfile.CHRTYPE),
        _member("corpus/block", tarfile.BLKTYPE),
        _member("corpus/pipe", tarfile.FIFOTYPE),
        _member("C:\\windows\\x"),
        _member("corpus\\..\\..\\x"),
    ],
    ids=lambda member: member.name,
)
def test_a_hostile_tar_is_refused_whole(tmp_path: Path, member: tarfile.TarInfo) -> None:
    archive = _tar(tmp_path / "bad.tar.gz", member)
    before = _everything_below(tmp_path)
    with pytest.raises(UserError) as caught:
        unpack(archive, tmp_path / "out")
    assert repr(member.name) in str(caught.value)
    assert "bad.tar.gz" in str(caught.value)
    assert _everything_below(tmp_path) - before == {"out"}


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("/tmp/absolute", 0o100644),
        ("../climbs", 0o100644),
        ("corpus/link", 0o120777),
        ("corpus/device", 0o020644),
        ("C:\\windows\\x", 0o100644),
        ("..\\x", 0o100644),
    ],
)
def test_a_hostile_zip_is_refused_whole(tmp_path: Path, name: str, mode: int) -> None:
    archive = _zip(tmp_path / "bad.zip", name, mode)
    before = _everything_below(tmp_path)
    with pytest.raises(UserError) as caught:
        unpack(archive, tmp_path / "out")
    assert repr(name) in str(caught.value)
    assert _everything_below(tmp_path) - before == {"out"}


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    whole = _tar(tmp_path / "whole.tar.gz", _member("corpus/x")).read_bytes()
    for number, content in enumerate((b"", b"not an archive", whole[: len(whole) // 2])):
        archive = tmp_path / f"broken{number}.tar.gz"
        archive.write_bytes(content)
        with pytest.raises(UserError, match=archive.name):
            unpack(archive, tmp_path / "out")
