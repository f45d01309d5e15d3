"""Corpora that are made on the user's machine: once for the same options, by one process.

::

    <corpus>/wav/<utterance>.flac
             <list>             set, utterance, speaker and text between tabs, one utterance in a line
             options.json       the receipt, written last: from what the corpus was made
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from slimasr.data.corpora.base import read_lines
from slimasr.errors import UserError
from slimasr.files import write_atomic, write_json_atomic, writing
from slimasr.locking import Lock, folder_lock
from slimasr.textfiles import Line

AUDIO = "wav"
"""The folder of audio."""

RECEIPT = "options.json"
Row = tuple[str, str, str, str]
"""Set, utterance id, voice (speaker) and text."""

_COLUMNS = 4


def make_once(folder: Path, receipt: Mapping[str, Any], make: Callable[[Lock], None]) -> None:
    """Make a corpus in ``folder``, unless it exists with this receipt.

    Args:
        receipt: all that decides on the content, as plain JSON data.
        make: writes everything else below ``folder``, where `AUDIO` is there already.
    """
    path = folder / RECEIPT
    if _is_made(path, receipt):
        return
    with folder_lock(folder / "corpus.lock", "slimasr-prepare, which makes this corpus") as lock:
        # Another process may have made it while this one waited for the lock.
        if _is_made(path, receipt):
            return
        with writing(folder):
            # Without its receipt the folder counts as incomplete until all files are written.
            path.unlink(missing_ok=True)
            (folder / AUDIO).mkdir(parents=True, exist_ok=True)
        make(lock)
        lock.verify()
        write_json_atomic(path, receipt)


def write_list(path: Path, rows: Iterable[Row]) -> None:
    """Write the list of a made corpus."""
    table = io.StringIO()
    csv.writer(table, delimiter="\t", lineterminator="\n").writerows(rows)
    write_atomic(path, table.getvalue())


def read_list(path: Path, sets: Collection[str]) -> Iterator[tuple[Line, Row]]:
    """Yield the lines and rows of the list of a made corpus.

    Args:
        sets: the sets that it may name.

    Raises:
        UserError: a line has other fields, or names another set.
    """
    for line in read_lines(path):
        fields = line.text.split("\t")
        if len(fields) != _COLUMNS or fields[0] not in sets:
            raise UserError(
                f"{line.where}: expected set ({', '.join(sets)}), utterance id, voice and text between tabs; "
                f"remove {path.with_name(RECEIPT)} to have the corpus made again"
            )
        name, utterance, speaker, text = fields
        yield line, (name, utterance, speaker, text)


def _is_made(path: Path, receipt: Mapping[str, Any]) -> bool:
    """Whether the receipt in the folder equals this one; a damaged receipt does not."""
    try:
        return path.is_file() and json.loads(path.read_text(encoding="utf-8")) == receipt
    except (OSError, ValueError):
        return False
