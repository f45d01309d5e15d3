"""Finds the format of own data by looking at a folder or file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimasr.config.corpora import OwnOptions
from slimasr.config.data import DataConfig
from slimasr.data.corpora.base import own_sets, parse_options
from slimasr.data.own.columns import KNOWN
from slimasr.data.own.folder import AUDIO, TRANSCRIPT_LISTS, has_transcript, walk
from slimasr.data.own.lines import first_line
from slimasr.data.shar.files import shard_name
from slimasr.data.shar.found import without_given
from slimasr.errors import UserError
from slimasr.files import entries

FORMATS = {
    "kaldi": "Kaldi data directory",
    "lhotse": "lhotse manifests",
    "shar": "lhotse Shar",
    "jsonl": "JSON lines",
    "csv": "table with a header",
    "folder": "folder of audio with transcripts",
}
"""``data.options.format`` -> the format in words."""

FORMAT_KEY = "data.options.format"
TABLES = (".csv", ".tsv")
JSON_LINES = (".jsonl", ".json", ".ndjson", ".jsonl.gz", ".json.gz")
_KALDI_FILES = ("wav.scp", "text", "segments", "utt2spk", "utt2lang", "reco2dur")
# Keys of the manifests that lhotse writes.
_LHOTSE_KEYS = {"recordings": {"id", "sources"}, "supervisions": {"id", "recording_id", "start"}}


@dataclass(frozen=True)
class Format:
    """The format of a source.

    Attributes:
        path: the source.
        name: as in ``data.options.format``.
        because: what says so.
    """

    path: Path
    name: str
    because: str

    @property
    def words(self) -> str:
        """The format in words."""
        return FORMATS[self.name]

    def __str__(self) -> str:
        return f"{self.path}: {self.words} ({self.because})"


def describe_sources(config: DataConfig, further: Sequence[str] = ()) -> list[str]:
    """Say in which format each source of a recipe is, and which sets nothing uses; empty for built-in corpora.

    Args:
        further: sets that are used besides those for training and evaluation.

    Raises:
        UserError: see `find_format`.
    """
    if config.corpus != "own":
        return []
    options = parse_options(OwnOptions, config.options, "own")
    listed = without_given(config).sources
    in_place = [name for name in config.sources if name not in listed]
    used = own_sets([*config.train, config.dev, *config.test, *further])
    return [
        *(
            f"data.sources: the set {name} is used by none of data.train, data.dev and data.test; name it there, or "
            "remove it here"
            for name in config.sources
            if name not in used
        ),
        *(
            f"{name}: {path}: shards that are read in place"
            for name in in_place
            for path in paths_of(config.sources[name])
        ),
        *(f"{name}: {find_format(path, options)}" for name, source in listed.items() for path in paths_of(source)),
    ]


def paths_of(source: str | list[str]) -> list[Path]:
    """The paths of a source."""
    return [Path(path) for path in (source if isinstance(source, list) else [source])]


def find_format(path: Path, options: OwnOptions) -> Format:
    """The format that options name, or else the one that is found.

    Raises:
        UserError: see `detect`.
    """
    if options.format == "auto":
        return detect(path)
    _check_exists(path)
    return Format(path, options.format, f"named by {FORMAT_KEY}")


def detect(path: Path) -> Format:
    """Find the format of a folder or file.

    Raises:
        UserError: it is missing, in no known format, or in two.
    """
    _check_exists(path)
    if not path.is_dir():
        return _detect_file(path)
    found = list(_formats_in(path))
    # Transcripts in a deeper folder count only if there is nothing else.
    if not found:
        deeper = next(
            (file for file in walk(path) if has_transcript(file) or file.name.endswith(TRANSCRIPT_LISTS)), None
        )
        if deeper is None:
            raise UserError(f"{path}: {_nothing(path)}")
        return _folder(path, deeper)
    other = next((item for item in found if item.name != found[0].name), None)
    if other is not None:
        raise UserError(
            f"{path}: holds two formats, {found[0].words} ({found[0].because}) and {other.words} ({other.because}); "
            f"name the file to read, set {FORMAT_KEY} to {found[0].name} or {other.name}, or remove one of them"
        )
    return found[0]


def lhotse_kind(path: Path) -> str | None:
    """What a file of JSON lines by lhotse holds: ``cuts``, ``recordings`` or ``supervisions``; None for other files."""
    record = _first_record(path)
    if not isinstance(record, dict):
        return None
    if str(record.get("type")).endswith("Cut"):
        return "cuts"
    return next((kind for kind, keys in _LHOTSE_KEYS.items() if keys <= record.keys()), None)


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise UserError(f"{path}: no such folder or file; correct data.sources")


def _detect_file(path: Path) -> Format:
    if shard_name(path) is not None:
        return Format(path, "shar", "a shard by its name")
    if path.name.endswith(JSON_LINES):
        kind = lhotse_kind(path)
        return Format(path, "jsonl", "JSON") if kind is None else Format(path, "lhotse", f"holds {kind}")
    if path.name.endswith(TABLES):
        return Format(path, "csv", "a table by its name")
    if path.name in _KALDI_FILES:
        raise UserError(f"{path}: is one file of a Kaldi data directory; name the folder {path.parent} instead")
    if path.suffix.lower() in AUDIO:
        raise UserError(f"{path}: is one audio file; name the folder that holds it and its transcript")
    raise UserError(
        f"{path}: its name says no format ({', '.join((*TABLES, *JSON_LINES))}); rename it, or set {FORMAT_KEY}"
    )


def _formats_in(folder: Path) -> Iterator[Format]:
    """The formats of which a folder itself, without those in it, holds files."""
    for file in entries(folder):
        if file.name.startswith(".") or not file.is_file():
            continue
        if file.name == "wav.scp":
            yield Format(folder, "kaldi", "holds wav.scp")
        elif shard_name(file) is not None:
            yield Format(folder, "shar", f"holds {file.name}")
        elif file.name.endswith(JSON_LINES):
            kind = lhotse_kind(file)
            # Other files of JSON describe something else.
            if kind is not None:
                yield Format(folder, "lhotse", f"{file.name} holds {kind}")
            elif names_audio(file):
                yield Format(folder, "jsonl", f"holds {file.name}")
        elif file.name.endswith(TABLES):
            yield Format(folder, "csv", f"holds {file.name}")
        elif has_transcript(file) or file.name.endswith(TRANSCRIPT_LISTS):
            yield _folder(folder, file)


def _folder(folder: Path, file: Path) -> Format:
    beside = "" if file.name.endswith(TRANSCRIPT_LISTS) else " and its transcript"
    return Format(folder, "folder", f"holds {file.relative_to(folder)}{beside}")


def names_audio(path: Path, column: str = "") -> bool:
    """Whether the first line of a file is a JSON object with the path of audio, unlike files of settings.

    Args:
        column: the key of the path; empty = one that is commonly named so.
    """
    record = _first_record(path)
    known = (column,) if column else KNOWN["audio"]
    return isinstance(record, dict) and any(key in known or key.lower() in known for key in record)


def _first_record(path: Path) -> Any:
    try:
        return json.loads(first_line(path))
    # What is wrong with the line is said when it is read.
    except (ValueError, RecursionError):
        return None


def _nothing(folder: Path) -> str:
    """Why no format is found in a folder."""
    audio = next((file for file in walk(folder) if file.suffix.lower() in AUDIO), None)
    if audio is not None:
        name = audio.relative_to(folder)
        return f"holds audio without transcripts; write the text of {name} to {name.with_suffix('.txt')}, and so on"
    return (
        "holds no data in a known format: neither wav.scp (Kaldi), manifests of lhotse, JSON lines, a table (.csv, "
        ".tsv) nor audio with transcripts (x.wav and x.txt)"
    )
