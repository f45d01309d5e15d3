"""Lists of shards: JSON lines with the names of the files of a shard.

::

    {"cuts": "part1/cuts.000000.jsonl.gz", "features": "part1/features.000000.tar"}
    {"cuts": "https://example.org/cuts.000001.jsonl.gz", "features": "https://example.org/features.000001.tar"}

Names are paths below the folder of the list or absolute ones, URLs that lhotse opens, or commands (``pipe:``); the one
of a manifest prints it unpacked. ``prefix`` is put before the ids of a shard, and ``num_cuts`` is its number of
utterances, which is counted otherwise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slimasr.config.shar import SharConfig
from slimasr.data.own.lines import first_line, read_lines
from slimasr.data.shar.files import FIELDS, PIPE, ShardFiles, is_path
from slimasr.errors import UserError
from slimasr.textfiles import Line


def is_list(path: Path) -> bool:
    """Whether a file is a list of shards, by its name and its first line."""
    if path.suffix != ".jsonl":
        return False
    try:
        first = json.loads(first_line(path))
    # What is wrong with a line is said when it is read.
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and "cuts" in first


def read_list(path: Path, config: SharConfig) -> Iterator[tuple[str, ShardFiles]]:
    """Yield the shards of a list with absolute paths, each after the ``file:line`` that names it.

    Raises:
        UserError: a line names no shard, a value is of another type, a path leads out of the folder of the list, a file
            is missing, or a command is not allowed.
    """
    for line in read_lines(path):
        yield line.where, _shard(_content(line), line, config).below(path.parent.absolute())


def _content(line: Line) -> Mapping[str, Any]:
    try:
        content = json.loads(line.text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{line.where}: is no JSON object ({error})") from None
    if not isinstance(content, dict) or "cuts" not in content:
        raise UserError(f'{line.where}: names no shard; needs for example {{"cuts": ..., "features": ...}}')
    return content


def _shard(content: Mapping[str, Any], line: Line, config: SharConfig) -> ShardFiles:
    cuts = _text(content, "cuts", line)
    field = FIELDS[config.content]
    if field not in content:
        raise UserError(f"{line.where}: the shard {cuts} has no {field}; data.shar.content is {config.content}")
    number = content.get("num_cuts")
    # Not isinstance, for which True would be an integer.
    if number is not None and (type(number) is not int or number < 1):
        raise UserError(f"{line.where}: num_cuts: needs a whole number from 1 on, not {number!r}; correct or remove it")
    prefix = _text(content, "prefix", line) if "prefix" in content else ""
    shard = ShardFiles(cuts, _text(content, field, line), number or 0, prefix)
    for name in (shard.cuts, shard.data):
        _check_name(name, line, config)
    return shard


def _text(content: Mapping[str, Any], key: str, line: Line) -> str:
    value = content[key]
    if not isinstance(value, str) or not value:
        raise UserError(f"{line.where}: {key}: needs a text, not {value!r}; correct the line")
    return value


def _check_name(name: str, line: Line, config: SharConfig) -> None:
    if name.startswith(PIPE) and not config.allow_pipes:
        raise UserError(f"{line.where}: the shard {name} is a command; set data.shar.allow_pipes to true to run it")
    if not is_path(name):
        return
    folder = line.path.parent
    # A list that comes from elsewhere could otherwise name any file of this machine.
    if Path(os.path.normpath(name)).parts[:1] == (os.pardir,):
        raise UserError(f"{line.where}: the path {name} leads out of {folder}; write it as an absolute path")
    if not (folder / name).is_file():
        raise UserError(f"{folder / name}: is missing, which {line.where} lists; restore it, or correct the list")
