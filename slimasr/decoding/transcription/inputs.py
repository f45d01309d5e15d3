"""Which recordings a user wants transcribed: files, folders, lists of files, standard input."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from slimasr.data.audio.file import CONVERTED, READ
from slimasr.decoding.streaming.sources import STANDARD_INPUT
from slimasr.errors import UserError
from slimasr.textfiles import read_lines

STDIN = "-"
"""Stands for standard input among paths."""


@dataclass(frozen=True)
class Recording:
    """One recording to transcribe.

    Attributes:
        path: the file; ``-`` is standard input.
        name: where its transcript is written below an output folder, without an ending.
        where: the line of the list that names it, for errors; empty = the command line names it.
    """

    path: Path
    name: PurePath
    where: str = ""

    @property
    def is_stdin(self) -> bool:
        """Whether it is read from standard input."""
        return str(self.path) == STDIN

    @property
    def shown(self) -> str:
        """What the user calls it."""
        return STANDARD_INPUT if self.is_stdin else str(self.path)

    @property
    def label(self) -> str:
        """The name without white space, which separates the columns of a CTM file."""
        return "_".join(str(self.name).split()) or "_"


def find_recordings(paths: Iterable[Path], list_file: Path | None = None) -> list[Recording]:
    """Find the recordings that the user has named.

    Args:
        paths: files, folders, which are searched for audio files at any depth, and ``-`` for standard input.
        list_file: a text file with such a path, but that of standard input, in every line; relative paths are
            relative to the folder of the list.

    Raises:
        UserError: a folder or the list cannot be read, the list names nothing, or standard input is named twice.
    """
    paths = list(paths)
    if paths.count(Path(STDIN)) > 1:
        raise UserError(f"standard input can be read once: name {STDIN} once")
    found = [recording for path in paths for recording in _below(path)]
    if list_file is not None:
        found += _listed(list_file)
    return found


def transcript_names(recordings: Sequence[Recording], ending: str) -> list[PurePath]:
    """Return the path below the output folder for the transcript of each recording.

    Raises:
        UserError: two recordings would have the same one.
    """
    taken: dict[PurePath, Recording] = {}
    for recording in recordings:
        name = recording.name.with_name(f"{recording.name.name}{ending}")
        other = taken.setdefault(name, recording)
        if other is not recording:
            raise UserError(
                f"{other.shown} and {recording.shown}: both transcripts would be named {name}; rename one, write them "
                "to different folders, or name the folder that holds both, whose layout is kept"
            )
    return list(taken)


def _below(path: Path) -> Iterator[Recording]:
    """Yield a file, or the audio files of a folder, whose layout their names keep."""
    if str(path) == STDIN:
        yield Recording(path, PurePath("stdin"))
    elif path.is_dir():
        yield from _inside(path, PurePath(), "")
    else:
        yield Recording(path, PurePath(path.stem))


def _inside(folder: Path, name: PurePath, where: str) -> Iterator[Recording]:
    """Yield the audio files of a folder; without any, the folder itself, which cannot be read as audio."""
    files = list(_audio_files(folder))
    for file in files:
        yield Recording(file, (name / file.relative_to(folder)).with_suffix(""), where)
    if not files:
        yield Recording(folder, PurePath(folder.name or "_"), where)


def _audio_files(folder: Path) -> Iterator[Path]:
    """Yield the audio files of a folder at any depth in the order of their names, without hidden ones."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        # A link to a folder may lead back to where the search has come from.
        if entry.is_dir() and not entry.is_symlink():
            yield from _audio_files(entry)
        # Files of other formats are found too, so that their error says how to convert them.
        elif entry.suffix.lower() in (*READ, *CONVERTED) and not entry.is_dir():
            yield entry


def _listed(list_file: Path) -> Iterator[Recording]:
    """Yield the files that a list names."""
    number = 0
    for line in read_lines(list_file):
        written = line.text.strip()
        if not written:
            continue
        number += 1
        path = list_file.parent / written
        # The layout below the list's folder is kept.
        inside = not os.path.isabs(written) and ".." not in PurePath(written).parts
        name = PurePath(written) if inside else PurePath(path.name)
        if path.is_dir():
            yield from _inside(path, name, line.where)
        else:
            yield Recording(path, name.with_suffix(""), line.where)
    if not number:
        raise UserError(f"{list_file}: names no file; write a path in every line")
