"""Text files of own data, which may be compressed."""

from __future__ import annotations

import gzip
import zlib
from itertools import islice
from pathlib import Path

from slimasr.errors import UserError
from slimasr.textfiles import Line, decode_text, read_text, split_lines

_FIRST_BYTES = 1 << 20


def read_lines(path: Path) -> list[Line]:
    """The lines of a file that are not blank; a name that ends in ``.gz`` is of a compressed file.

    Raises:
        UserError: the file is missing, damaged or not UTF-8 text.
    """
    if path.suffix != ".gz":
        text = read_text(path)
    else:
        try:
            text = decode_text(path, gzip.decompress(path.read_bytes()))
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{path}: cannot be read ({reason}); if it was copied, copy it again") from None
    return [line for line in split_lines(path, text) if line.text.strip()]


def first_line(path: Path) -> str:
    """The first line of a text file that is not blank, to look at; empty if there is none or it cannot be read."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            lines = file.read(_FIRST_BYTES).decode("utf-8-sig", errors="replace").splitlines()
    except (OSError, EOFError, zlib.error):
        return ""
    return next(islice((line.strip() for line in lines if line.strip()), 1), "")
