"""Kaldi data directories: ``wav.scp``, ``text`` and, where they are there, ``segments``, ``utt2spk`` and ``utt2lang``.

The files are read here and not by ``lhotse.kaldi.load_kaldi_data_dir``: that runs the commands of ``wav.scp`` unasked,
opens all audio one by one, needs a sampling rate, and knows no line numbers for messages. ``reco2dur`` is not needed,
as stage 1 reads the headers of audio.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slimasr.data.corpora.base import ListedUtterance
from slimasr.data.own.lines import read_lines
from slimasr.data.own.reading import Reading, find_audio
from slimasr.errors import UserError
from slimasr.textfiles import Line

PIPE_KEY = "data.options.allow_pipes"
PIPES = "pipes"
"""Where below `Reading.made` the output of commands is kept."""

# Kaldi's place in an archive, which no audio library reads.
_IN_ARCHIVE = re.compile(r"\.ark(:\d+)?$")
_DIGITS = 16

Table = Mapping[str, tuple[str, Line]]


@dataclass(frozen=True)
class _Part:
    """An utterance's part of its recording, in seconds, its channel if one is named, and the line that says so."""

    recording: str
    line: Line
    start: float = 0.0
    duration: float | None = None
    channel: int | None = None


def read(path: Path, reading: Reading) -> Iterator[ListedUtterance]:
    """Yield the utterances in the order of ``segments``, or without it of ``wav.scp``.

    Raises:
        UserError: a file is missing or cannot be parsed, an id occurs twice or in one of two files only, or a recording
            is the output of a command and commands are not allowed.
    """
    recordings, texts = _needed(path / "wav.scp"), _needed(path / "text")
    speakers, languages = _optional(path / "utt2spk"), _optional(path / "utt2lang")
    segments = path / "segments"
    if segments.is_file():
        parts = {name: _segment(name, rest, line) for name, (rest, line) in read_table(segments).items()}
    else:
        parts = {name: _Part(name, line) for name, (_, line) in recordings.items()}
    _check_texts(texts, parts, "segments" if segments.is_file() else "wav.scp")
    for name, part in parts.items():
        if part.recording not in recordings:
            raise UserError(f"{part.line.where}: recording {part.recording} is not in {path / 'wav.scp'}; add it there")
        audio, command = _audio(part.recording, *recordings[part.recording], reading)
        # Without a transcript the text is empty, which is reported as any other empty transcript.
        text, line = texts.get(name, ("", part.line))
        yield ListedUtterance(
            id=name,
            audio=audio,
            text=text,
            speaker=speakers[name][0] if name in speakers else "",
            language=languages[name][0] if name in languages else "",
            # The line that names the audio, unless it is the text that is missing.
            source=part.line.where if text else line.where,
            start=part.start,
            duration=part.duration,
            channel=part.channel,
            command=command,
        )


def read_table(path: Path) -> dict[str, tuple[str, Line]]:
    """Read a file of Kaldi: first word of a line -> the rest of the line, and the line.

    Raises:
        UserError: two lines begin with the same word; see also `read_lines`.
    """
    found: dict[str, tuple[str, Line]] = {}
    for line in read_lines(path):
        name, *rest = line.text.split(maxsplit=1)
        if name in found:
            raise UserError(f"{line.where}: {name} is in line {found[name][1].number} already; keep one of them")
        found[name] = (rest[0].strip() if rest else "", line)
    return found


def _needed(path: Path) -> dict[str, tuple[str, Line]]:
    if not path.is_file():
        raise UserError(f"{path} is missing: a Kaldi data directory needs wav.scp and text")
    return read_table(path)


def _optional(path: Path) -> dict[str, tuple[str, Line]]:
    return read_table(path) if path.is_file() else {}


def _check_texts(texts: Table, parts: Mapping[str, _Part], listed_in: str) -> None:
    """Refuse a transcript without audio."""
    for name, (_, line) in texts.items():
        if name not in parts:
            raise UserError(f"{line.where}: utterance {name} is not in {listed_in}; add it there, or remove it here")


def _segment(name: str, rest: str, line: Line) -> _Part:
    try:
        recording, start, end, *further = rest.split()
        times = float(start), float(end)
        channel = _channel(further)
    except ValueError:
        raise UserError(
            f"{line.where}: expected 'UTTERANCE RECORDING START END' with times in seconds, and perhaps the number of "
            "a channel from 0 on"
        ) from None
    if not all(map(math.isfinite, times)) or times[0] < 0.0:
        raise UserError(f"{line.where}: start {start} and end {end} of {name} must be seconds from 0 on")
    # Kaldi's end of the recording.
    if times[1] == -1.0:
        return _Part(recording, line, times[0], channel=channel)
    if times[1] <= times[0]:
        raise UserError(f"{line.where}: segment {name} ends at {end} s, not behind its start at {start} s")
    return _Part(recording, line, times[0], round(times[1] - times[0], ndigits=8), channel)


def _channel(further: Sequence[str]) -> int | None:
    """The channel at the end of a line of ``segments``, as Kaldi's extract-segments reads it: -1 = the only one.

    Raises:
        ValueError: it is no such number, or more follows.
    """
    if not further:
        return None
    (number,) = map(int, further)
    if number < -1:
        raise ValueError(number)
    return None if number == -1 else number


def _audio(recording: str, entry: str, line: Line, reading: Reading) -> tuple[Path, str]:
    """The audio file of a recording, and the command whose output it keeps or an empty text."""
    if entry.endswith("|"):
        command = entry.removesuffix("|").strip()
        return command_output(command, f"{line.where}: recording {recording}", reading), command
    if _IN_ARCHIVE.search(entry):
        raise UserError(
            f"{line.where}: {entry} is a place in an archive of Kaldi; write the audio to files, with wav-copy"
        )
    folder = line.path.parent
    # Kaldi reads relative paths against the folder in which it is started.
    return find_audio(entry, line.where, folder, reading.options.audio_root, (Path(),)), ""


def command_output(command: str, where: str, reading: Reading) -> Path:
    """The file that keeps the output of a command.

    Raises:
        UserError: commands are not allowed.
    """
    if not reading.options.allow_pipes:
        raise UserError(
            f"{where} is the output of the command {command!r}, which runs only with {PIPE_KEY}: true; set it if you "
            "trust this file, or write the audio to files"
        )
    digest = hashlib.sha256(command.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]
    return reading.made / PIPES / f"{digest}.wav"
