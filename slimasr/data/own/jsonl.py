"""JSON lines as NeMo writes them: ``{"audio_filepath": ..., "text": ..., "offset": ..., "duration": ...}``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from slimasr.data.corpora.base import ListedUtterance
from slimasr.data.own.columns import Record, choose_columns, utterance_of
from slimasr.data.own.find import JSON_LINES, names_audio
from slimasr.data.own.lines import read_lines
from slimasr.data.own.one_file import one_file
from slimasr.data.own.reading import IdMaker, Reading
from slimasr.errors import UserError
from slimasr.textfiles import Line


def read(path: Path, reading: Reading) -> Iterator[ListedUtterance]:
    """Yield the utterance of each line.

    Raises:
        UserError: a line is not a JSON object, or lacks a key.
    """
    file = one_file(path, JSON_LINES, partial(names_audio, column=reading.options.audio_column))
    ids = IdMaker(reading.label, Path.absolute(file).parent)
    keys: list[str] = []
    columns: dict[str, str] = {}
    for line in read_lines(file):
        record = Record(parse_object(line), line.where)
        # Keys such as the offset may be in some lines only, but most lines have the keys of the line before.
        if [*record.values] != keys:
            keys = [*record.values]
            columns = choose_columns(keys, reading.options, line.where)
        yield utterance_of(record, columns, reading, ids)


def parse_object(line: Line) -> dict[str, Any]:
    """The JSON object of a line.

    Raises:
        UserError: it is none.
    """
    advice = "each line needs one object, which 'jq -c .[] FILE' makes of a list"
    try:
        value = json.loads(line.text)
    # Of brackets in brackets in brackets.
    except (ValueError, RecursionError) as error:
        raise UserError(f"{line.where}: is not JSON ({error}); {advice}") from None
    if not isinstance(value, dict):
        raise UserError(f"{line.where}: needs an object {{...}}, not {line.text[:40]!r}; {advice}")
    return value
