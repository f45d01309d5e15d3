"""lhotse Shar folders, whose audio is written to files so that all stages can read it.

::

    <made>/shar/<name>-<digest>/<shard>/<number>.flac     audio, as it is in the shard
                                <shard>.jsonl.gz          the shard's cuts with these files
                                <shard>.json              the state of the shard's files at that time; written last

lhotse reads the shards one by one, so that a message can name the shard.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from lhotse import AudioSource, CutSet
from lhotse.cut import Cut, MonoCut, MultiCut
from lhotse.utils import fastcopy

from slimasr.data.corpora.base import ListedUtterance
from slimasr.data.files import write_cuts
from slimasr.data.own.lhotse_manifests import read_cuts
from slimasr.data.own.lines import read_lines
from slimasr.data.own.reading import Reading, safe_name
from slimasr.data.shar.files import archive_of, shard_name
from slimasr.errors import UserError
from slimasr.files import matching, read_json, write_atomic, write_json_atomic, writing
from slimasr.progress import Progress

SHAR = "shar"
"""Where below `Reading.made` the audio of Shar folders is kept."""

UNNAMED = "jsonl"
"""The folder of the audio of a shard whose files have no number, ``cuts.jsonl.gz`` and ``recording.tar``."""

_DIGITS = 8
# What lhotse raises for archives and manifests that are damaged.
_UNREADABLE = (
    tarfile.TarError,
    zlib.error,
    OSError,
    EOFError,
    AssertionError,
    AttributeError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
)
# First bytes of audio -> ending of the file's name.
_ENDINGS = {b"fLaC": ".flac", b"RIFF": ".wav", b"OggS": ".ogg", b"ID3": ".mp3"}


@dataclass(frozen=True)
class SharShard:
    """The cuts of a shard, their audio, and where it is written to."""

    cuts: Path
    recording: Path
    target: Path

    @property
    def manifest(self) -> Path:
        """The cuts with files of audio."""
        return self.target.with_name(f"{self.target.name}.jsonl.gz")

    @property
    def state(self) -> list[Any]:
        """What identifies the present content of the shard's files, as plain JSON data."""
        files = [path.stat() for path in (self.cuts, self.recording)]
        return [[file.st_size, file.st_mtime_ns] for file in files]

    @property
    def record(self) -> Path:
        """The state of which the audio has been written."""
        return self.target.with_name(f"{self.target.name}.json")

    @property
    def is_done(self) -> bool:
        """Whether the audio of the present shard has been written."""
        if not self.record.is_file():
            return False
        return read_json(self.record, "remove it and run stage 1 (slimasr-prepare) again", list) == self.state


def read(path: Path, reading: Reading) -> Iterator[ListedUtterance]:
    """Yield the utterances of a folder or shard whose audio `extract` has written.

    Raises:
        UserError: shards are incomplete or damaged, or have not been extracted.
    """
    for shard in find_shards(path, reading.made):
        if not shard.is_done:
            raise UserError(f"{shard.recording}: has changed since its audio was written; run the same command again")
        yield from read_cuts(shard.manifest, reading, shard.cuts)


def extract(path: Path, made: Path, progress: Progress) -> None:
    """Write the audio of a folder or shard to files; shards that have been written are left as they are.

    Raises:
        UserError: a shard is incomplete or damaged, or holds no audio.
    """
    missing = [shard for shard in find_shards(path, made) if not shard.is_done]
    for shard in progress(missing, len(missing), f"audio of {path.name}"):
        _extract(shard)


def find_shards(path: Path, made: Path) -> list[SharShard]:
    """The shards of a folder, or the one whose cuts a file holds, in the order of their numbers.

    Raises:
        UserError: there are none, or one has no audio.
    """
    folder = path if path.is_dir() else path.parent
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    found = [(file, name) for file in files if (name := shard_name(file)) is not None]
    if not found:
        raise UserError(f"{path}: holds no shards of lhotse Shar, such as cuts.000000.jsonl.gz")
    digest = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:_DIGITS]
    target = made / SHAR / f"{safe_name(Path.absolute(folder).name)}-{digest}"
    return [_shard(file, name, target) for file, name in found]


def _shard(cuts: Path, name: str, target: Path) -> SharShard:
    archive = archive_of(cuts, name, "recording")
    # A shard may also have a manifest of recordings.
    recordings = [archive] if archive.is_file() else matching(cuts.parent, f"{escape(archive.stem)}.*")
    if not recordings:
        raise UserError(
            f"{cuts}: there is no {archive.name} beside it, and features of lhotse are not used; write Shar with "
            "recordings"
        )
    return SharShard(cuts, recordings[0], Path.absolute(target / (name or UNNAMED)))


def _extract(shard: SharShard) -> None:
    expected = len(read_lines(shard.cuts))
    # Left by an earlier state of the shard, or by an interrupted run.
    with writing(shard.target):
        shard.record.unlink(missing_ok=True)
        shutil.rmtree(shard.target, ignore_errors=True)
    cuts = [_with_file(cut, shard, number) for number, cut in enumerate(_read(shard), start=1)]
    if len(cuts) != expected:
        raise UserError(
            f"{shard.recording}: holds the audio of {len(cuts)} cuts, {shard.cuts.name} lists {expected}: truncated, "
            "or of other cuts; copy both again"
        )
    write_cuts(shard.manifest, cuts)
    write_json_atomic(shard.record, shard.state)


def _read(shard: SharShard) -> Iterator[Cut]:
    """The cuts of a shard with their audio in memory.

    Raises:
        UserError: the shard is damaged or inconsistent.
    """
    fields = {"cuts": [str(shard.cuts)], "recording": [str(shard.recording)]}
    try:
        yield from CutSet.from_shar(fields=fields)
    except _UNREADABLE as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UserError(f"{shard.recording}: cannot be read: damaged, truncated or of other cuts ({reason})") from None


def _with_file(cut: Cut, shard: SharShard, number: int) -> Cut:
    where = f"{shard.cuts}:{number}"
    # Placeholders of other fields, such as features, stay unread.
    if not isinstance(cut, MonoCut | MultiCut) or cut.recording is None:
        raise UserError(f"{where}: cut {cut.id} has no audio in {shard.recording.name}")
    bare = fastcopy(cut, features=None, custom=None)
    sources = []
    for place, source in enumerate(cut.recording.sources):
        # A manifest of recordings in place of the archive may name files.
        if source.type != "memory":
            sources.append(source)
            continue
        content: bytes = source.source
        ending = next((ending for mark, ending in _ENDINGS.items() if content.startswith(mark)), "")
        # Numbers and not ids, which may hold anything.
        target = shard.target / f"{number:06d}{f'-{place}' if place else ''}{ending}"
        write_atomic(target, content)
        sources.append(AudioSource(type="file", channels=source.channels, source=str(target)))
    return fastcopy(bare, recording=fastcopy(cut.recording, sources=sources))
