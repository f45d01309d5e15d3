"""Shards that a recipe names in ``data.sources``, which are read where they are.

A source is a folder in lhotse's Shar format, the manifest of one shard (``cuts.000000.jsonl.gz``), or a list of shards:
JSON lines with the names of the files of a shard, which may also be URLs that lhotse opens, or commands (``pipe:``)::

    {"cuts": "part1/cuts.000000.jsonl.gz", "features": "part1/features.000000.tar"}
    {"cuts": "https://example.org/cuts.000001.jsonl.gz", "features": "https://example.org/features.000001.tar"}

Relative paths are those below the folder of the list. The command of a manifest prints it unpacked. ``prefix`` is put
before the ids of a shard, and ``num_cuts`` is its number of utterances, which is counted otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from slimasr.config.data import DataConfig
from slimasr.data.shar.files import FIELDS, PIPE, ShardFiles, count_listed, is_path, shard_list
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
        UserError: a file is missing or damaged, or a command is not allowed.
    """
    found = [shard for path in _sources(config, set_name) for shard in _shards_of(path, config)]
    if not found:
        raise UserError(f"data.sources: {set_name} names no shard")
    # A list may name a shard several times, with different prefixes.
    counts = {shard.cuts: count_listed(shard) for shard in found if not shard.num_cuts}
    return [replace(shard, num_cuts=shard.num_cuts or counts[shard.cuts], is_given=True) for shard in found]


def _sources(config: DataConfig, set_name: str) -> Iterator[Path]:
    for part in set_name.split("+"):
        source = config.sources[part]
        yield from map(Path, source if isinstance(source, list) else [source])


def _is_shards(path: Path) -> bool:
    if path.is_dir():
        return any(_is_manifest(file) for file in path.iterdir())
    return path.is_file() and (_is_manifest(path) or _is_list(path))


def _is_manifest(path: Path) -> bool:
    """Whether a file is the manifest of a shard by its name."""
    parts = path.name.split(".")
    return parts[0] == "cuts" and "jsonl" in parts[2:]


def _is_list(path: Path) -> bool:
    """Whether a file is a list of shards, by its first line."""
    if path.suffix != ".jsonl":
        return False
    with open(path, encoding="utf-8", errors="replace") as file:
        try:
            first = json.loads(file.readline())
        except json.JSONDecodeError:
            return False
    return isinstance(first, dict) and isinstance(first.get("cuts"), str)


def _shards_of(path: Path, config: DataConfig) -> Iterator[ShardFiles]:
    field = FIELDS[config.shar.content]
    if not path.is_dir() and not _is_manifest(path):
        for content in shard_list(path):
            yield _listed(content, path, config)
        return
    manifests = sorted(filter(_is_manifest, path.iterdir())) if path.is_dir() else [path]
    for manifest in manifests:
        # cuts.000000.jsonl.gz has its features in features.000000.tar.
        name = manifest.name.removeprefix("cuts.").partition(".jsonl")[0]
        archive = manifest.with_name(f"{field}.{name}.tar")
        if not archive.is_file():
            raise UserError(
                f"{archive}: is missing beside {manifest.name}; data.shar.content is {config.shar.content}: read "
                "what the shards hold, or restore it"
            )
        yield ShardFiles(str(manifest.absolute()), str(archive.absolute()))


def _listed(content: Mapping[str, Any], path: Path, config: DataConfig) -> ShardFiles:
    field = FIELDS[config.shar.content]
    if not isinstance(content.get(field), str):
        raise UserError(
            f"{path}: the shard {content['cuts']} has no {field}; data.shar.content is {config.shar.content}"
        )
    shard = ShardFiles(content["cuts"], content[field], int(content.get("num_cuts", 0)), str(content.get("prefix", "")))
    for name in (shard.cuts, shard.data):
        if name.startswith(PIPE) and not config.shar.allow_pipes:
            raise UserError(f"{path}: the shard {name} is a command; set data.shar.allow_pipes to true to run it")
        if is_path(name) and not (path.parent / name).is_file():
            raise UserError(f"{path.parent / name}: is missing, which {path} lists; restore it, or correct the list")
    return shard.below(path.parent.absolute())
