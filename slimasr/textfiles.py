"""Read users' text files, in the same way everywhere.

Files are UTF-8, with or without a byte order mark; lines end with LF, CRLF or CR. Nothing else ends a line:
U+2028, U+0085, form feeds and the like stay inside it (``str.splitlines`` would split there). U+FEFF, which has no
width and marks the beginning of files, is dropped everywhere, because joined files have it in the middle.

Everywhere in slimasr, a *word* is what ``str.split`` returns: words end at any Unicode white space, including U+00A0
and U+3000. Stage 1 writes transcripts with one space between words, so that all later stages count the same words.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

from slimasr.errors import UserError

_MARK = "\ufeff"
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
# Editors and copying between systems sometimes turn CRLF into CR CR LF.
_LINE_END = re.compile(r"\r*\n")


@dataclass(frozen=True)
class Line:
    """One line of a file.

    Attributes:
        path: the file.
        number: line number, counted from 1.
        text: the line without its line end.
    """

    path: Path
    number: int
    text: str

    @property
    def where(self) -> str:
        """``file:line``, for messages."""
        return f"{self.path}:{self.number}"


def read_text(path: Path) -> str:
    """The whole text of a file, with LF as the only line end.

    Raises:
        UserError: the file cannot be read; see also `decode_text`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    return decode_text(path, data)


def decode_text(path: Path, data: bytes) -> str:
    """Decode the bytes of a text file, with LF as the only line end.

    Raises:
        UserError: they are not UTF-8, or hold a NUL byte or a stray carriage return; the message names file and line.
    """
    # Checked first, because UTF-8 would fail at the mark with a less helpful message.
    if data.startswith(_WIDE_MARKS):
        raise UserError(f"{path}: is UTF-16 or UTF-32 text; save it as UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}:{_line_number(data[: error.start])}: is not UTF-8 text (byte {error.start} of the file is "
            f"0x{data[error.start]:02x}); convert the file to UTF-8"
        ) from None
    return _with_plain_line_ends(path, text).replace(_MARK, "")


def read_lines(path: Path) -> list[Line]:
    """All lines, including empty ones; the end of the last line does not start another one.

    Raises:
        UserError: see `read_text`.
    """
    return split_lines(path, read_text(path))


def split_lines(path: Path, text: str) -> list[Line]:
    """The lines of a file's text, which has LF as the only line end; see `read_lines`."""
    if not text:
        return []
    return [Line(path, number, line) for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1)]


def _with_plain_line_ends(path: Path, text: str) -> str:
    """Replace CRLF by LF, and CR in a file without any LF. Any other CR is an accident and is refused."""
    # The last line may end with the CR of an incomplete CRLF, which is dropped.
    text = _LINE_END.sub("\n", text).rstrip("\r") if "\n" in text else text.replace("\r", "\n")
    for character, name in (("\0", "a NUL byte (is it UTF-16?)"), ("\r", "a carriage return inside the line")):
        position = text.find(character)
        if position >= 0:
            number = text.count("\n", 0, position) + 1
            raise UserError(f"{path}:{number}: holds {name}; save the file as UTF-8 with LF line ends")
    return text


def _line_number(before: bytes) -> int:
    """The number of the line that follows these bytes, in a file with any line ends."""
    # A file has either kind of line end, or both together (CRLF), which count once.
    return max(before.count(b"\n"), before.count(b"\r")) + 1
