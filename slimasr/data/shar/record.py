"""Which shards a training set has: ``features/shar_<set>.json``, which stage 2 writes and training reads.

The record names files, and says how many utterances and bytes each has, so that training opens no shard before it reads
it. Files below the features folder have relative paths; those of given shards are named as they were given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slimasr.config.schema import Config
from slimasr.data.files import DataFolder
from slimasr.data.identity.digests import Identity
from slimasr.data.identity.manifest_record import DAMAGED, STAGE_2, check_corpus, read_record
from slimasr.data.identity.provenance import check_made_from
from slimasr.data.shar.files import ShardFiles, is_path
from slimasr.errors import UserError
from slimasr.files import understanding, write_json_atomic


def record_path(folder: DataFolder, set_name: str) -> Path:
    """The record of a set."""
    return folder.features / f"shar_{set_name}.json"


def write_shar_record(
    config: Config, folder: DataFolder, set_name: str, shards: Sequence[ShardFiles], made_from: Identity
) -> None:
    """Record the shards of a set.

    Args:
        shards: their files, relative to the features folder.
        made_from: identity of the manifest of stage 1.
    """
    listed = [{**asdict(shard), "bytes": sizes(shard.below(folder.features))} for shard in shards]
    record = {**shard_settings(config), "made_from": made_from.to_dict(), "shards": listed}
    write_json_atomic(record_path(folder, set_name), record)


def shard_settings(config: Config) -> dict[str, Any]:
    """The keys on which the content of shards depends."""
    content = config.data.shar.content
    settings: dict[str, Any] = {"data.shar.content": content, "data.sampling_rate": config.data.sampling_rate}
    if content == "features":
        settings |= {"features.num_mel_bins": config.features.num_mel_bins, "data.speeds": config.data.speeds}
    return settings


def sizes(shard: ShardFiles) -> list[int | None]:
    """Sizes of the manifest and the archive in bytes; None = not a local file."""
    return [Path(name).stat().st_size if is_path(name) else None for name in (shard.cuts, shard.data)]


def read_shards(config: Config, folder: DataFolder, set_name: str) -> list[ShardFiles]:
    """The shards of a set, after checking that they are those that stage 2 recorded for these settings.

    No shard is opened.

    Raises:
        UserError: stage 2 has not run, ran with other settings or from another manifest, or a file is missing or has
            another size.
    """
    path = record_path(folder, set_name)
    record = read_record(path)
    if record is None:
        raise UserError(f"{path} is missing: run {STAGE_2} first")
    check_corpus(config.data, folder, set_name)
    for key, value in shard_settings(config).items():
        if record.get(key) != value:
            raise UserError(
                f"{key} is {value}, but the shards of {path} were made with {record.get(key)}: run stage 2 again "
                "(slimasr-features)"
            )
    with understanding(path, DAMAGED):
        made_from = Identity.from_dict(record["made_from"])
    check_made_from(folder, set_name, path, made_from)
    shards = []
    for item in record["shards"]:
        with understanding(path, DAMAGED):
            shard = ShardFiles.of(item).below(folder.features)
            recorded = list(item["bytes"])
        _check_files(shard, recorded)
        # Shards of which nothing could be used stay without utterances.
        if shard.num_cuts:
            shards.append(shard)
    if not shards:
        raise UserError(f"{path}: the shards of {set_name} hold no utterance")
    return shards


def _check_files(shard: ShardFiles, recorded: Sequence[int | None]) -> None:
    for name, size in zip((shard.cuts, shard.data), recorded, strict=True):
        if size is None:
            continue
        path = Path(name)
        if not path.is_file():
            raise UserError(f"{path}: is missing; restore the shard, or run stage 2 again (slimasr-features)")
        now = path.stat().st_size
        if now != size:
            raise UserError(
                f"{path}: has {now} bytes, and had {size} when stage 2 read or wrote it: a damaged or truncated shard; "
                "restore it, or run stage 2 again (slimasr-features)"
            )
