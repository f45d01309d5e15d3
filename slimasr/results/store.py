"""Reading and changing an experiment's results.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slimasr.errors import UserError
from slimasr.files import read_json, write_json_atomic
from slimasr.locking import file_lock


def read_results(exp: Path) -> dict[str, Any]:
    """Content of results.json, empty when there is none.

    Raises:
        UserError: the file is damaged.
    """
    path = exp / "results.json"
    if not path.exists():
        return {}
    results: dict[str, Any] = read_json(path, "restore it, or remove it and run stages 4 to 7 again")
    if not all(isinstance(entry, dict) for entry in _mapping(results, "subnets", path).values()):
        raise UserError(f"{path}: damaged, every entry of subnets needs to be a mapping; restore it")
    return results


def update_results(exp: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Merge values into results.json, mapping by mapping, and write it atomically; gives the merged content."""
    return change_results(exp, lambda results: _deep_merge(results, values))


def change_results(exp: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Read results.json, write what ``change`` makes of it, and return that. Other processes wait in the meantime.

    Args:
        change: returns new content, or its very argument where there is nothing to write.

    Raises:
        UserError: the file is not JSON, cannot be written, or is held by another process for too long.
    """
    with file_lock(exp / "results.json"):
        before = read_results(exp)
        after = change(before)
        if after is not before:
            write_json_atomic(exp / "results.json", after)
    return after


def _mapping(results: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = results.get(key, {})
    if not isinstance(value, dict):
        raise UserError(f"{path}: damaged, {key} needs to be a mapping; restore it")
    return value


def _deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = _deep_merge(below, value) if both else value  # type: ignore[arg-type]
    return merged
