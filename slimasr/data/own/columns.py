"""Columns of tables and keys of JSON: which of them hold what, and an utterance from one record."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimasr.config.corpora import OwnOptions
from slimasr.data.corpora.base import ListedUtterance
from slimasr.data.manifests.listing import BEYOND_SECONDS
from slimasr.data.own.reading import IdMaker, Reading, find_audio
from slimasr.errors import UserError

KNOWN = {
    "id": ("id", "utt_id", "utterance_id", "utt"),
    "audio": (
        "audio_filepath",
        "audio_file",
        "audio_path",
        "audio",
        "path",
        "file",
        "filename",
        "file_name",
        "wav",
        "wav_path",
        "wav_filename",
    ),
    "text": ("text", "sentence", "transcript", "transcription"),
    "speaker": ("speaker", "speaker_id", "spk", "client_id"),
    "language": ("lang", "language", "locale"),
    "start": ("offset", "start", "start_time"),
    "duration": ("duration",),
    "end": ("end", "end_time"),
    "channel": ("channel",),
}
"""What a column holds -> names by which it is known, the first one that is there counts; NeMo's, Common Voice's and
DeepSpeech's are among them."""

NEEDED = ("audio", "text")
_TIMES = ("start", "duration", "end")
# No recording is as long; beyond it, sums and milliseconds may be infinite.
_MOST_SECONDS = 1e9


@dataclass(frozen=True)
class Record:
    """One row of a table, or one line of JSON.

    Attributes:
        values: column -> value; values of tables are texts.
        where: ``file:line``, for messages.
    """

    values: Mapping[str, Any]
    where: str


def choose_columns(names: Collection[str], options: OwnOptions, where: str) -> dict[str, str]:
    """Choose what each column holds.

    Args:
        names: the names of the columns.
        where: ``file:line``, for messages.

    Returns:
        A key of `KNOWN` -> name of a column; keys without a column are missing.

    Raises:
        UserError: a column that an option names is not there, there is none for audio or text, or there are two whose
            names differ in case only.
    """
    by_lower: dict[str, list[str]] = {}
    for name in names:
        by_lower.setdefault(name.strip().lower(), []).append(name)
    there = ", ".join(names)
    chosen: dict[str, str] = {}
    for what, known in KNOWN.items():
        given = str(getattr(options, f"{what}_column", ""))
        if given and given not in names:
            raise UserError(f"{where}: there is no {given} (data.options.{what}_column); there are: {there}")
        alike = [given] if given else next((by_lower[name] for name in known if name in by_lower), [])
        if len(alike) > 1:
            raise UserError(f"{where}: {' and '.join(alike)} both name the {what}; rename one of them")
        if alike:
            chosen[what] = alike[0]
        elif what in NEEDED:
            raise UserError(
                f"{where}: none of {there} is known to hold the {what}; name it by data.options.{what}_column"
            )
    return chosen


def utterance_of(
    record: Record, columns: Mapping[str, str], reading: Reading, ids: IdMaker, further: Sequence[Path] = ()
) -> ListedUtterance:
    """The utterance of a record.

    Args:
        columns: from `choose_columns`.
        ids: makes the id if there is no column of ids.
        further: see `find_audio`.

    Raises:
        UserError: a value is missing or of the wrong type.
    """
    audio = find_audio(_text(record, columns, "audio"), record.where, ids.folder, reading.options.audio_root, further)
    start = _seconds(record, columns, "start") or 0.0
    duration = _duration(record, columns, start)
    language = _text(record, columns, "language").strip()
    return ListedUtterance(
        id=_text(record, columns, "id").strip() if "id" in columns else ids.make(audio, start, duration),
        audio=audio,
        text=_text(record, columns, "text"),
        speaker=_text(record, columns, "speaker").strip(),
        language=language or reading.options.language,
        source=record.where,
        start=start,
        duration=duration,
        # These lists give the length of whole files, too.
        rounded=True,
        channel=_channel(record, columns),
    )


def _text(record: Record, columns: Mapping[str, str], what: str) -> str:
    value = record.values.get(columns[what]) if what in columns else None
    # JSON has null and numbers, such as speakers 1, 2, 3.
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{record.where}: {columns[what]}: needs a text, not {value!r}")
    # What pandas writes for a missing value is no word; a time says itself that it is no number.
    if isinstance(value, float) and math.isnan(value) and what not in _TIMES:
        raise UserError(f"{record.where}: {columns[what]}: needs a text, not NaN; write null, or remove the line")
    return str(value)


def _duration(record: Record, columns: Mapping[str, str], start: float) -> float | None:
    """The length of the utterance in seconds, which its end gives as well; None = up to the end of the file."""
    duration, end = _seconds(record, columns, "duration"), _seconds(record, columns, "end")
    if end is None:
        return duration
    if end <= start:
        raise UserError(f"{record.where}: {columns['end']}: {end:g} s is not behind the start at {start:g} s")
    length = round(end - start, ndigits=8)
    if duration is not None and abs(duration - length) > BEYOND_SECONDS:
        raise UserError(
            f"{record.where}: {columns['duration']}: {duration:g} s are not the {length:g} s from {start:g} s to "
            f"{columns['end']} {end:g} s; correct one of them, or remove one of the columns"
        )
    return length if duration is None else duration


def _seconds(record: Record, columns: Mapping[str, str], what: str) -> float | None:
    value = _text(record, columns, what).strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0.0 <= seconds <= _MOST_SECONDS:
        raise UserError(f"{record.where}: {columns[what]}: needs seconds from 0 on, not {value!r}")
    return seconds


def _channel(record: Record, columns: Mapping[str, str]) -> int | None:
    value = _text(record, columns, "channel").strip()
    if not value:
        return None
    if not value.isdecimal():
        raise UserError(f"{record.where}: {columns['channel']}: needs the number of a channel from 0 on, not {value!r}")
    return int(value)
