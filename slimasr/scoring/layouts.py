"""Read transcripts in the layouts of ``slimasr-score``, which are recognised by file name and content.

Kaldi's ``text`` has the utterance id first, sclite's ``.trn`` has it last, in parentheses. Other layouts are refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slimasr.errors import UserError
from slimasr.scoring.transcripts import read_text
from slimasr.textfiles import Line, read_lines

EXPECTED = "Kaldi's '<utterance id> <word> ...' or sclite's '<word> ... (<utterance id>)' in every line"
_TRN = re.compile(r"(?P<words>.*)\((?P<id>[^()\s]+)\)\s*")
_ALTERNATIVES = re.compile(r"\{[^{}]*/[^{}]*\}")
# With a decimal point: texts may consist of digits.
_SECONDS = r"\d+\.\d+"
# File and channel; then begin, duration and word, or speaker, begin and end.
_CTM = re.compile(rf"\S+\s+\S+\s+{_SECONDS}\s+{_SECONDS}\s+\S.*")
_STM = re.compile(rf"\S+\s+\S+\s+\S+\s+{_SECONDS}\s+{_SECONDS}(\s.*)?")
_OTHERS = (
    ("a CTM file (times of words)", ".ctm", _CTM),
    ("an STM file (times of segments)", ".stm", _STM),
    ("icefall's recogs", None, re.compile(r".+:\t(ref|hyp)=\[.*\]\s*")),
)


@dataclass(frozen=True)
class Transcripts:
    """The transcripts of a file.

    Attributes:
        words: utterance id -> words.
        layout: ``text`` or ``trn``.
    """

    words: dict[str, tuple[str, ...]]
    layout: Literal["text", "trn"]


def read_transcripts(path: Path) -> Transcripts:
    """Read a file of transcripts: as ``.trn`` if it has that ending or looks like one, otherwise as Kaldi's ``text``.

    Raises:
        UserError: the file cannot be read, has another layout, mixes layouts, holds sclite's alternatives
            (``{ a / b }``), or has an utterance twice.
    """
    # Lines that begin with ;; are comments in all files of sclite.
    lines = [line for line in read_lines(path) if line.text.strip() and not line.text.startswith(";;")]
    # Before any layout is chosen, because every line of a CTM file is also a valid line of a text file.
    _refuse_other_layouts(path, lines)
    for line in lines:
        if _ALTERNATIVES.search(line.text):
            raise UserError(f"{line.where}: alternatives as in '{{ a / b }}' are not supported; choose one of them")
    if path.suffix.lower() == ".trn" or _looks_like_trn(lines):
        return Transcripts(_read_trn(path, lines), "trn")
    return Transcripts(read_text(path), "text")


def _refuse_other_layouts(path: Path, lines: Sequence[Line]) -> None:
    for name, suffix, pattern in _OTHERS:
        named = path.suffix.lower() == suffix
        if named or (lines and all(pattern.fullmatch(line.text) for line in lines)):
            raise UserError(f"{path}: looks like {name}; expected {EXPECTED}")


def _looks_like_trn(lines: Sequence[Line]) -> bool:
    """Whether all lines end with an id in parentheses, each line with another one.

    Raises:
        UserError: most lines do, but not all, so that neither layout fits.
    """
    matches = [_TRN.fullmatch(line.text) for line in lines]
    ids = [match["id"] for match in matches if match is not None]
    # In Kaldi's layout the last words may be marks such as (noise), but these occur again and again.
    if len(set(ids)) < len(ids) or not ids:
        return False
    if len(ids) == len(lines):
        return True
    if len(ids) > 1 and 2 * len(ids) > len(lines):
        # The first line that does not match.
        other = lines[matches.index(None)]
        raise UserError(f"{other.where}: does not end with '(<utterance id>)' as other lines do; expected {EXPECTED}")
    return False


def _read_trn(path: Path, lines: Sequence[Line]) -> dict[str, tuple[str, ...]]:
    if not lines:
        raise UserError(f"{path}: is empty, expected lines '<word> ... (<utterance id>)'")
    transcripts: dict[str, tuple[str, ...]] = {}
    for line in lines:
        match = _TRN.fullmatch(line.text)
        if match is None:
            raise UserError(f"{line.where}: expected '<word> ... (<utterance id>)', sclite's .trn layout")
        if match["id"] in transcripts:
            raise UserError(f"{line.where}: utterance {match['id']} comes twice; keep one of them")
        transcripts[match["id"]] = tuple(match["words"].split())
    return transcripts
