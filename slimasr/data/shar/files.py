"""The files of one shard, and reading it from its first utterance to its last."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.lazy import LazyManifestIterator
from lhotse.serialization import open_best
from lhotse.utils import is_valid_url

from slimasr.errors import UserError

Content = Literal["features", "audio"]
FIELDS: dict[Content, str] = {"features": "features", "audio": "recording"}
"""The field of a cut, and so the beginning of the file name, that holds what a shard is read for."""

PIPE = "pipe:"
_MANIFEST = re.compile(r"cuts(\.(?P<name>.+))?\.jsonl(\.\w+)?")
# Stage 2 adds a digest to the number.
_NUMBER = re.compile(r"\d+(-\w+)?")
# What damaged, truncated or foreign files raise in lhotse, tarfile and gzip; `OSError` includes `BadGzipFile`.
_DAMAGE = (
    OSError,
    EOFError,
    zlib.error,
    tarfile.TarError,
    ValueError,
    AssertionError,
    LookupError,
    TypeError,
    RuntimeError,
)


@dataclass(frozen=True)
class ShardFiles:
    """One shard.

    Attributes:
        cuts: the manifest of its utterances: a path, a URL or a command (``pipe:``).
        data: the archive of their features or audio.
        num_cuts: number of utterances; 0 = not known before the shard is read.
        prefix: put before the ids of its utterances, so that shards of several sources may have equal ids.
        is_given: whether the recipe names it, so that its transcripts are those of its source; stage 2 has written the
            others, after stage 1 has changed transcripts as ``data.text`` says.
    """

    cuts: str
    data: str
    num_cuts: int = 0
    prefix: str = ""
    is_given: bool = False

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> ShardFiles:
        """Inverse of ``asdict``."""
        cuts, data, prefix = (str(content[key]) for key in ("cuts", "data", "prefix"))
        return cls(cuts, data, int(content["num_cuts"]), prefix, bool(content["is_given"]))

    def below(self, root: Path) -> ShardFiles:
        """The same shard with relative paths taken as those below a folder."""
        return replace(self, cuts=_below(root, self.cuts), data=_below(root, self.data))


def shard_name(manifest: Path) -> str | None:
    """The name of the shard of which a file is the manifest: ``000000`` for ``cuts.000000.jsonl.gz``; None = of none.

    A name without a number, or none at all (``cuts.jsonl.gz``), is that of a shard if an archive is beside the file, as
    lhotse's manifests of whole sets have such names, too.
    """
    match = _MANIFEST.fullmatch(manifest.name)
    if match is None:
        return None
    name = match["name"] or ""
    has_archive = any(archive_of(manifest, name, field).is_file() for field in FIELDS.values())
    return name if _NUMBER.fullmatch(name) or has_archive else None


def archive_of(manifest: Path, name: str, field: str) -> Path:
    """The archive of a field of a shard with this name: ``features.000000.tar`` beside ``cuts.000000.jsonl.gz``."""
    return manifest.with_name(f"{field}.{name}.tar" if name else f"{field}.tar")


def is_path(name: str) -> bool:
    """Whether a name is that of a local file, and not a URL or a command."""
    return not name.startswith(PIPE) and not is_valid_url(name)


def _below(root: Path, name: str) -> str:
    return str(root / name) if is_path(name) else name


def read_listed(shard: ShardFiles) -> Iterator[Cut]:
    """Yield the utterances of a shard without their features or audio, which are not read.

    Raises:
        UserError: the manifest is missing or damaged.
    """
    with _explained(shard.cuts):
        for cut in LazyManifestIterator(shard.cuts):
            yield _named(cut, shard)


def count_listed(shard: ShardFiles) -> int:
    """The number of utterances in the manifest of a shard, which are not looked at.

    Raises:
        UserError: the manifest is missing, damaged or empty.
    """
    with _explained(shard.cuts), open_best(shard.cuts, "rb") as file:
        count = sum(1 for _ in file)
    # Also what a command prints that fails.
    if not count:
        raise UserError(f"{shard.cuts}: lists no utterance; restore the shard, or leave it out")
    return count


def read_shard(shard: ShardFiles, content: Content) -> Iterator[Cut]:
    """Yield the utterances of a shard with their features or audio in memory.

    Raises:
        UserError: a file is missing, damaged or truncated, or the two do not belong together.
    """
    field = FIELDS[content]
    count = 0
    try:
        with _explained(shard.data):
            for cut in CutSet.from_shar(fields={"cuts": [shard.cuts], field: [shard.data]}):
                count += 1
                yield _with_data(_named(cut, shard), field, shard)
    except UserError:
        # lhotse reads both files at once; if the manifest is the damaged one, this raises an error that names it.
        sum(1 for _ in read_listed(shard))
        raise
    # lhotse stops at the end of the shorter file.
    listed = shard.num_cuts or count_listed(shard)
    if count != listed:
        raise UserError(
            f"{shard.data}: holds the {content} of {count} utterances, {shard.cuts} lists {listed}: the shard is "
            "truncated, or its files do not belong together; copy or write it again"
        )


def _named(cut: Cut, shard: ShardFiles) -> Cut:
    # The cut has just been read, and no other object refers to it.
    cut.id = f"{shard.prefix}{cut.id}"
    return cut


def _with_data(cut: Cut, field: str, shard: ShardFiles) -> Cut:
    """Check that a cut holds its data, and not the path or the command of another place."""
    manifest = getattr(cut, field, None)
    kinds = [manifest.storage_type] if field == "features" and manifest is not None else []
    if field == "recording" and manifest is not None:
        kinds = [source.type for source in manifest.sources]
    if not kinds or not all(kind.startswith("memory") for kind in kinds):
        raise UserError(f"{shard.data}: holds no {field} of {cut.id}; write the shard again without this utterance")
    return cut


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Raise errors about the content of a file as `UserError` with its name, in one line."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        missing = error.filename or name
        raise UserError(f"{missing}: is missing; restore the shard, or leave it out and run stage 2 again") from None
    except _DAMAGE as error:
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        if is_valid_url(name):
            raise UserError(
                f"{name}: cannot be read ({reason}); URLs need the package smart_open and access to the place"
            ) from error
        raise UserError(f"{name}: damaged or truncated shard ({reason}); copy or write it again") from error
