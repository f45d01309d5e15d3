"""Tables with a header, with commas, semicolons, bars or tabs between columns, such as those of Common Voice."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from slimasr.data.corpora.base import ListedUtterance
from slimasr.data.own.columns import Record, choose_columns, utterance_of
from slimasr.data.own.find import TABLES
from slimasr.data.own.one_file import one_file
from slimasr.data.own.reading import IdMaker, Reading
from slimasr.errors import UserError
from slimasr.textfiles import read_text

CLIPS = "clips"
"""The folder of Common Voice's audio, which its tables do not name."""

_LONGEST_FIELD = 10**7


def read(path: Path, reading: Reading) -> Iterator[ListedUtterance]:
    """Yield the utterance of each row.

    Raises:
        UserError: a column is missing, or a row has more or fewer columns than the header.
    """
    table = one_file(path, TABLES)
    rows = _rows(table)
    header = next(rows, None)
    if header is None:
        raise UserError(f"{table}: is empty; its first line must name the columns")
    names = [name.strip() for name in header[1]]
    _check_header(names, header[0])
    columns = choose_columns(names, reading.options, header[0])
    ids = IdMaker(reading.label, Path.absolute(table).parent)
    for where, values in rows:
        if len(values) != len(names):
            raise UserError(f"{where}: has {len(values)} columns, the header has {len(names)} ({', '.join(names)})")
        record = Record(dict(zip(names, values, strict=True)), where)
        yield utterance_of(record, columns, reading, ids, (ids.folder / CLIPS,))


def _check_header(names: list[str], where: str) -> None:
    if len(names) < 2:
        raise UserError(
            f"{where}: expected the names of the columns, with commas, semicolons, bars or tabs between them"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{where}: two columns are named {twice!r}; rename one of them")


def _rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield ``file:line`` and columns of each row that is not blank."""
    text = read_text(path)
    first = text.lstrip("\n").partition("\n")[0]
    separator = next((mark for mark in "\t;|" if mark in first and not (mark != "\t" and "," in first)), ",")
    # Only tables with commas or semicolons have quoted columns: sentences of Common Voice hold lone quotes.
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if separator in ",;" else csv.QUOTE_NONE
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting, strict=True)
    number = 1
    while True:
        # The line on which the row begins, as quoted columns may hold line ends.
        where = f"{path}:{number}"
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise UserError(f"{where}: is not a row of a table ({error}); check the quotes") from None
        if values is None:
            return
        number = reader.line_num + 1
        if any(value.strip() for value in values):
            yield where, values
