"""Keys of earlier versions: recipes and experiment folders that have them still load, with the same meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OLD_KEYS: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("loss", "auxiliary", "alignments"): ("loss", "alignments"),
    ("loss", "distillation", "per"): ("loss", "per"),
}
"""The full path of a key in an earlier version -> its present path."""

OLD_VALUES: Mapping[tuple[str, ...], Mapping[str, str]] = {("loss", "per"): {"node": "unit"}}
"""Present path of a key -> values of an earlier version and their present names."""


def migrated(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree of a configuration with present keys in place of those of earlier versions.

    An old key stays where it is if its present one is given too and not null, and is then refused as unknown.
    """
    result = dict(tree)
    for old, new in OLD_KEYS.items():
        holder = _section(result, old[:-1])
        if holder is None or old[-1] not in holder:
            continue
        if (_section(result, new[:-1]) or {}).get(new[-1]) is not None:
            continue
        value = holder[old[-1]]
        if isinstance(value, str):
            value = OLD_VALUES.get(new, {}).get(value, value)
        result = _with(_without(result, old), new, value)
    return result


def with_present_defaults(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree of a whole configuration with null where an earlier version wrote what null means.

    ``method.share_predictor`` of a transducer was true by default. Of a CTC model, where it means nothing, it stays to
    be refused.
    """
    result = dict(tree)
    path = ("method", "share_predictor")
    method = _section(result, path[:1]) or {}
    kind = (_section(result, ("model",)) or {}).get("kind", "transducer")
    if kind == "transducer" and method.get(path[1]) is True:
        result = _with(result, path, None)
    return result


def _section(tree: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any] | None:
    """Return the mapping at a path, None if there is none."""
    found: Any = tree
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _without(tree: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Return a copy without the key at a path, which exists."""
    first, *rest = path
    if not rest:
        return {key: value for key, value in tree.items() if key != first}
    return {**tree, first: _without(tree[first], tuple(rest))}


def _with(tree: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return a copy with a value at a path, whose sections exist."""
    first, *rest = path
    return {**tree, first: _with(tree[first], tuple(rest), value) if rest else value}
