"""Text files as editors and systems write them: marks, encodings, line ends, and what must not end a line."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from slimasr.errors import UserError
from slimasr.textfiles import read_lines, read_text

# All characters but LF and CR at which str.splitlines ends a line.
NO_LINE_ENDS = "\v\f\x1c\x1d\x1e\x85\u2028\u2029"


def _lines(path: Path, data: bytes) -> list[tuple[int, str]]:
    path.write_bytes(data)
    return [(line.number, line.text) for line in read_lines(path)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_marks(tmp_path: Path, end: str, last: bool, mark: str) -> None:
    text = mark + end.join(["eins", "", " drei", "vier"]) + (end if last else "")
    assert _lines(tmp_path / "t", text.encode()) == [(1, "eins"), (2, ""), (3, " drei"), (4, "vier")]


@pytest.mark.parametrize("character", NO_LINE_ENDS)
def test_other_separators_stay_inside_a_line(tmp_path: Path, character: str) -> None:
    assert len(f"a{character}b".splitlines()) == 2, "else the test tests nothing"
    assert _lines(tmp_path / "t", f"a{character}b\nc\n".encode()) == [(1, f"a{character}b"), (2, "c")]


def test_marks_of_joined_files_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("a\n", encoding="utf-8-sig")
    joined = (tmp_path / "t").read_bytes() * 2
    assert _lines(tmp_path / "t", joined) == [(1, "a"), (2, "a")]
    assert _lines(tmp_path / "t", b"\xef\xbb\xbf") == []
    assert _lines(tmp_path / "t", b"") == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a\nb\n".encode("utf-16"), "t: is UTF-16"),
        (codecs.BOM_UTF16_BE + "a\n".encode("utf-16-be"), "t: is UTF-16"),
        ("a\n".encode("utf-32"), "t: is UTF-16 or UTF-32"),
        ("a\nb\n".encode("utf-16-le"), "t:1: holds a NUL byte"),
        (b"a\nb\0\n", "t:2: holds a NUL byte"),
        ("gut\nsch\xf6n\n".encode("latin-1"), "t:2: is not UTF-8 text .byte 7 of the file is 0xf6"),
        ("gut\rsch\xf6n\r".encode("latin-1"), "t:2: is not UTF-8 text"),
        ("gut\r\nsch\xf6n\r\n".encode("latin-1"), "t:2: is not UTF-8 text"),
        (b"a\nb\rc\n", "t:2: holds a carriage return"),
        ("日本".encode("shift-jis"), "t:1: is not UTF-8 text"),
        (b"a\n\xc3", "t:2: is not UTF-8 text"),
    ],
)
def test_what_is_no_plain_text_is_refused_with_its_place(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(UserError, match=message):
        read_text(tmp_path / "t")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "no", "no: No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UserError, match=message):
            read_lines(path)
