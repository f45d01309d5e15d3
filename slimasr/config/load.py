"""From a YAML file and ``--set`` overrides to a checked `Config`, and back to a file.

A file may build on others of its folder: ``include: base.yaml``, or a list of which later ones win; its own keys win
over them all. A section whose ``kind`` names another choice than the one below it starts anew, as the keys of one
kind mean nothing to another.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from slimasr.config.read import parse_yaml, read_yaml
from slimasr.config.schema import Config
from slimasr.config.section import Section, kinds_of, sections_of
from slimasr.errors import UserError
from slimasr.files import write_atomic

Tree = dict[str, Any]
LONGEST_SHOWN = 100
"""Characters of a wrong value that an error message shows."""


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read one experiment.

    Args:
        path: YAML file.
        overrides: ``key=value`` strings; the value is read as YAML. A leading section name that occurs once in the
            schema stands for its full path: ``encoder.num_layers=6`` means ``model.encoder.num_layers=6``.

    Raises:
        UserError: the file is missing or not YAML, or a key is unknown, of the wrong type or impossible.
    """
    tree = _read_tree(path, ())
    for override in overrides:
        tree = _merge(_with_default_kinds(tree, Config), _override_tree(override), Config)
    try:
        return parse_config(tree)
    except ValidationError as error:
        raise UserError(f"{path}: {describe_validation(error)}") from None


def parse_config(tree: Tree) -> Config:
    """A configuration from plain data; sections that leave out their ``kind`` get the default one, but in lists.

    Raises:
        pydantic.ValidationError: a key is unknown, of the wrong type or impossible.
    """
    return Config.model_validate(_with_default_kinds(tree, Config))


def save_config(config: Config, path: Path) -> None:
    """Write every key of the resolved configuration, atomically."""
    write_atomic(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def first_difference(a: Config, b: Config) -> str | None:
    """The first key whose value differs, with both values; None when the configurations are equal."""
    return _first_difference(a.model_dump(mode="json"), b.model_dump(mode="json"), "")


def describe_validation(error: ValidationError) -> str:
    """All findings in one line, each named by its key in the YAML."""
    return "; ".join(_describe(dict(item)) for item in error.errors(include_url=False))


def _describe(item: Mapping[str, Any]) -> str:
    location = tuple(item["loc"])
    keys, known = _walk(location)
    name = ".".join(map(str, keys))
    if item["type"] == "extra_forbidden":
        return f"{name}: unknown key{_did_you_mean(str(keys[-1]), known)}"
    if item["type"] == "missing":
        return f"{name}: this key is needed"
    if item["type"] == "union_tag_not_found":
        return f"{name}.kind: this key is needed"
    if item["type"] == "union_tag_invalid":
        return f"{name}.kind: must be one of {item['ctx']['expected_tags']}, got {item['ctx']['tag']!r}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{name}.{message}" if name else message
    return f"{name}: {message[:1].lower()}{message[1:]}, got {_shown(item['input'])}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _walk(location: Sequence[str | int]) -> tuple[list[str | int], list[str]]:
    """YAML keys of a pydantic location (which also holds the kinds of unions), and the keys known where it ends."""
    keys: list[str | int] = []
    known = list(Config.model_fields)
    choices: list[type[Section]] = [Config]
    for part in location:
        if len(choices) > 1 and part in kinds_of(choices):
            choices = [kinds_of(choices)[str(part)]]
            known = list(choices[0].model_fields)
            continue
        keys.append(part)
        if isinstance(part, str):
            known = [key for choice in choices for key in choice.model_fields]
            annotations = [c.model_fields[part].annotation for c in choices if part in c.model_fields]
            choices = [section for annotation in annotations for section in sections_of(annotation, in_lists=True)]
    return keys, known


def _did_you_mean(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def _read_tree(path: Path, including: tuple[Path, ...]) -> Tree:
    identity = Path(os.path.realpath(path))
    if identity in including:
        raise UserError(f"{path}: include: the files include each other")
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise UserError(f"{path}: holds no keys; see the recipes' conf folders for examples")
    merged: Tree = {}
    for base in _included(path, tree):
        below = _read_tree(path.parent / base, (*including, identity))
        merged = _merge(_with_default_kinds(merged, Config), below, Config)
    return _merge(_with_default_kinds(merged, Config), tree, Config) if merged else tree


def _included(path: Path, tree: Tree) -> list[str]:
    """Take the names of the files below out of a tree."""
    bases = tree.pop("include", [])
    names = bases if isinstance(bases, list) else [bases]
    if not all(isinstance(name, str) and name and "\0" not in name for name in names):
        raise UserError(f"{path}: include: must be the name of a file or a list of names, got {_shown(bases)}")
    return names


def _override_tree(override: str) -> Tree:
    """``a.b=value`` as nested mappings, its key completed and checked against the schema."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {override}: must look like key=value, e.g. encoder.num_layers=6")
    value = parse_yaml(text, f"--set {override}: the value")
    for part in reversed(_complete(key.strip().split("."), override)):
        value = {part: value}
    return dict(value)


def _complete(parts: list[str], override: str) -> list[str]:
    """The full path of a key whose leading sections may be left out."""
    if parts[0] not in Config.model_fields:
        found = [path for path in _section_paths(Config) if path[-1] == parts[0]]
        if len(found) > 1:
            names = ", ".join(".".join(path) for path in found)
            raise UserError(f"--set {override}: {parts[0]} may mean {names}; write it in full")
        if not found:
            known = [*Config.model_fields, *(path[-1] for path in _section_paths(Config))]
            raise UserError(f"--set {override}: unknown key {parts[0]}{_did_you_mean(parts[0], known)}")
        parts = [*found[0], *parts[1:]]
    choices: list[type[Section]] = [Config]
    for part in parts:
        if not choices:
            break
        known = [key for choice in choices for key in choice.model_fields]
        if part not in known:
            raise UserError(f"--set {override}: unknown key {part}{_did_you_mean(part, known)}")
        holders = [choice for choice in choices if part in choice.model_fields]
        choices = [s for holder in holders for s in sections_of(holder.model_fields[part].annotation)]
    return parts


def _section_paths(section: type[Section], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all sections below one, each once."""
    paths: list[tuple[str, ...]] = []
    for name, field in section.model_fields.items():
        choices = sections_of(field.annotation)
        if choices:
            paths.append((*prefix, name))
        for choice in choices:
            paths.extend(_section_paths(choice, (*prefix, name)))
    return list(dict.fromkeys(paths))


def _merge(base: Tree, over: Tree, section: type[Section] | None) -> Tree:
    """``base`` with the keys of ``over``; mappings are merged, everything else is replaced.

    ``section=None``: a free mapping, such as ``space.units``, from which a null takes a key out.
    """
    merged = dict(base)
    for key, value in over.items():
        if section is None and value is None:
            merged.pop(key, None)
            continue
        below = merged.get(key)
        field = section.model_fields.get(key) if section is not None else None
        choices = [] if field is None else sections_of(field.annotation)
        if isinstance(value, dict) and isinstance(below, dict) and not _other_kind(choices, below, value):
            merged[key] = _merge(below, value, _chosen(choices, below))
        else:
            merged[key] = value
    return merged


def _chosen(choices: Sequence[type[Section]], value: Tree) -> type[Section] | None:
    """The section class of a mapping, None for a free mapping."""
    return choices[0] if len(choices) == 1 else kinds_of(choices).get(str(value.get("kind")))


def _other_kind(choices: Sequence[type[Section]], below: Tree, value: Tree) -> bool:
    return len(kinds_of(choices)) > 1 and "kind" in value and value["kind"] != below.get("kind")


def _with_default_kinds(tree: Tree, section: type[Section]) -> Tree:
    """``tree`` with the default ``kind`` written into sections that leave it out."""
    filled = dict(tree)
    for name, field in section.model_fields.items():
        value = filled.get(name)
        choices = sections_of(field.annotation)
        if not isinstance(value, dict) or not choices:
            continue
        if len(kinds_of(choices)) > 1 and "kind" not in value:
            value = {"kind": field.get_default(call_default_factory=True).kind, **value}
        choice = _chosen(choices, value)
        filled[name] = value if choice is None else _with_default_kinds(value, choice)
    return filled


def _first_difference(a: Any, b: Any, name: str) -> str | None:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            found = _first_difference(a.get(key), b.get(key), f"{name}.{key}" if name else str(key))
            if found is not None:
                return found
        return None
    return None if a == b else f"{name}: {a!r} against {b!r}"
