"""What both parts of ``slimasr-transcribe`` share."""

from __future__ import annotations

import sys
from typing import BinaryIO, NamedTuple

from slimasr.errors import UserError

STDIN = "-"
"""The name of standard input on the command line."""


class Wanted(NamedTuple):
    """Which subnet recognises: the one with this name, or the pathway of this language."""

    name: str | None
    language: str | None


def standard_input() -> BinaryIO:
    """Return standard input.

    Raises:
        UserError: the shell has closed it.
    """
    # Python has none then.
    if sys.stdin is None:
        raise UserError("standard input is closed: pipe audio into the command")
    return sys.stdin.buffer
