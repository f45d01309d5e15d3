"""Shards that a recipe names in ``data.sources``, which are read where they are.

A source is a folder in lhotse's Shar format, the manifest of one shard (``cuts.000000.jsonl.gz``), or a list of shards
(`slimasr.data.shar.lists`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from slimasr.config.data import DataConfig
from slimasr.data.shar.files import FIELDS, ShardFiles, archive_of, count_listed, shard_name
from slimasr.data.shar.lists import is_list, read_list
from slimasr.errors import UserError


def given_sets(config: DataConfig) -> list[str]:
    """The training sets whose sources are shards that are read in place.

    Raises:
        UserError: a set consists of shards only in part, or the dev and test sets have no sources.
    """
    given = [name for name in config.train if is_given(config, name)]
    if len(given) == len(config.train):
        for name in (config.dev, *config.test):
            for part in name.split("+"):
                if part not in config.sources:
                    raise UserError(
                        f"data.sources: {part} has no source, and no utterances are split off from shards; give it one"
                    )
    return given


def without_given(config: DataConfig) -> DataConfig:
    """The data section without the training sets that are read in place, for the stages that list utterances."""
    given = given_sets(config)
    parts = {part for name in given for part in name.split("+")}
    sources = {name: source for name, source in config.sources.items() if name not in parts}
    train = [name for name in config.train if name not in given]
    return config.model_copy(update={"train": train, "sources": sources}) if given else config


def is_given(config: DataConfig, set_name: str) -> bool:
    """Whether a training set consists of given shards.

    Raises:
        UserError: only a part of the set does.
    """
    if config.storage != "shar" or config.corpus != "own" or set_name not in config.train:
        return False
    paths = list(_sources(config, set_name))
    kinds = [_is_shards(path) for path in paths]
    if any(kinds) and not all(kinds):
        other = paths[kinds.index(False)]
        raise UserError(f"data.sources: {set_name} consists of shards, but not {other}; name it as a set of its own")
    return all(kinds)


def given_shards(config: DataConfig, set_name: str) -> list[ShardFiles]:
    """The shards of a set that consists of given ones, with their numbers of utterances.

    Raises:
        UserError: a file is missing or damaged, a command is not allowed, or a shard is named twice.
    """
    found: dict[tuple[str, str], tuple[str, ShardFiles]] = {}
    for path in _sources(config, set_name):
        for where, shard in shards_of(path, config):
            # A shard may be named several times, with different prefixes.
            key = shard.cuts, shard.prefix
            if key in found:
                raise UserError(
                    f"{where}: the shard {shard.cuts} is named already by {found[key][0]}, so that ids would be there "
                    "twice; remove it, or in a list, give it another prefix"
                )
            found[key] = where, shard
    if not found:
        raise UserError(f"data.sources: {set_name} names no shard")
    shards = [shard for _, shard in found.values()]
    counts = {shard.cuts: count_listed(shard) for shard in shards if not shard.num_cuts}
    return [replace(shard, num_cuts=shard.num_cuts or counts[shard.cuts], is_given=True) for shard in shards]


def _sources(config: DataConfig, set_name: str) -> Iterator[Path]:
    for part in set_name.split("+"):
        source = config.sources[part]
        yield from map(Path, source if isinstance(source, list) else [source])


def _is_shards(path: Path) -> bool:
    if path.is_dir():
        return any(shard_name(file) is not None for file in path.iterdir())
    return path.is_file() and (shard_name(path) is not None or is_list(path))


def shards_of(path: Path, config: DataConfig) -> Iterator[tuple[str, ShardFiles]]:
    """Yield the shards of a source, each after the place that names it.

    Raises:
        UserError: a shard has no archive of what is to be read; see also `read_list`.
    """
    if not path.is_dir() and shard_name(path) is None:
        yield from read_list(path, config.shar)
        return
    field = FIELDS[config.shar.content]
    for manifest in sorted(path.iterdir()) if path.is_dir() else [path]:
        name = shard_name(manifest)
        if name is None:
            continue
        archive = archive_of(manifest, name, field)
        if not archive.is_file():
            raise UserError(
                f"{archive}: is missing beside {manifest.name}; data.shar.content is {config.shar.content}: read "
                "what the shards hold, or restore it"
            )
        yield str(path), ShardFiles(str(manifest.absolute()), str(archive.absolute()))
