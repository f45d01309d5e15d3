"""From a YAML file and ``--set`` overrides to a checked `Config`, and back to a file.

A file may include others of its folder: ``include: base.yaml``, or a list in which later files override earlier ones.
The keys of the file itself override those of the included files. A section whose ``kind`` differs from the included
one replaces it as a whole, because the keys of one kind mean nothing to another.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from slimasr.config.migrate import OLD_KEYS, migrated, with_present_defaults
from slimasr.config.read import parse_yaml, read_yaml
from slimasr.config.schema import Config
from slimasr.config.section import Section, fields_of, kinds_of, sections_of
from slimasr.errors import UserError
from slimasr.files import write_atomic

Tree = dict[str, Any]
LONGEST_SHOWN = 100
"""Characters of a wrong value that an error message shows."""


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read the configuration of one experiment.

    Args:
        path: YAML file.
        overrides: ``key=value`` strings; the value is read as YAML. A leading section name that occurs once in the
            schema stands for its full path: ``encoder.num_layers=6`` means ``model.encoder.num_layers=6``.

    Raises:
        UserError: the file is missing or not YAML, or a key is unknown, of the wrong type or impossible.
    """
    tree = _read_tree(path, ())
    # Default kinds are written in before each override, so that ``encoder.kind=mh_ssm`` replaces a Conformer that was
    # never named, and ``encoder.num_layers=6`` does not.
    for override in overrides:
        tree = _merge(_with_default_kinds(tree, Config), _override_tree(override), Config)
    try:
        return parse_config(tree)
    except ValidationError as error:
        raise UserError(f"{path}: {describe_validation(error)}") from None


def parse_config(tree: Tree) -> Config:
    """Check plain data, of this version or an earlier one (`slimasr.config.migrate`).

    Sections without ``kind`` are of the default one, except in lists, where it is needed.

    Raises:
        pydantic.ValidationError: a key is unknown, of the wrong type or impossible.
    """
    return Config.model_validate(_with_default_kinds(with_present_defaults(migrated(tree)), Config))


def save_config(config: Config, path: Path) -> None:
    """Write every key of the resolved configuration, atomically."""
    write_atomic(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def first_difference(a: Config, b: Config) -> str | None:
    """Return the first key whose value differs, with both values, or None if the configurations are equal."""
    return first_different_key(a.model_dump(mode="json"), b.model_dump(mode="json"))


def first_different_key(a: Any, b: Any, name: str = "") -> str | None:
    """Do the same for plain data; ``name`` is that of the section which both are."""
    if isinstance(a, dict) and isinstance(b, dict):
        # All keys of both, in the order of the first.
        for key in [*a, *(key for key in b if key not in a)]:
            found = first_different_key(a.get(key), b.get(key), f"{name}.{key}" if name else str(key))
            if found is not None:
                return found
        return None
    return None if a == b else f"{name}: {a!r} against {b!r}"


def describe_validation(error: ValidationError) -> str:
    """Describe all mistakes in one line, each with its key as written in YAML."""
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
    # Validators of whole sections begin their message with the key within the section, those of one key may quote.
    if item["type"] == "value_error":
        separator = ": " if message[:1] in "'\"" else "."
        return f"{name}{separator}{message}" if name else message
    return f"{name}: {message[:1].lower()}{message[1:]}, got {_shown(item['input'])}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _walk(location: Sequence[str | int]) -> tuple[list[str | int], list[str]]:
    """Return the YAML keys of a pydantic location, and the keys that are known where it ends.

    A location also holds the chosen kind of every section that has kinds, which is no key in YAML:
    ``("model", "encoder", "conformer", "num_layers")``.
    """
    keys: list[str | int] = []
    known = list(fields_of(Config))
    choices: list[type[Section]] = [Config]
    for part in location:
        # A kind: it narrows the sections and adds no key.
        if len(choices) > 1 and part in kinds_of(choices):
            choices = [kinds_of(choices)[str(part)]]
            known = list(fields_of(choices[0]))
            continue
        keys.append(part)
        # A number is the place of an entry in a list, whose sections are already in ``choices``.
        if isinstance(part, str):
            known = [key for choice in choices for key in fields_of(choice)]
            choices = _sections_below(choices, part, in_lists=True)
    return keys, known


def _sections_below(choices: Iterable[type[Section]], key: str, *, in_lists: bool = False) -> list[type[Section]]:
    """The sections that a key may hold in any of these sections."""
    fields = [field for choice in choices for name, field in fields_of(choice).items() if name == key]
    return [section for field in fields for section in sections_of(field.annotation, in_lists=in_lists)]


def _did_you_mean(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def _read_tree(path: Path, including: tuple[Path, ...]) -> Tree:
    """Read a file and those that it includes.

    Args:
        including: the files on the way to this one, which must not be included again.
    """
    # Two names may lead to the same file through links.
    identity = Path(os.path.realpath(path))
    if identity in including:
        raise UserError(f"{path}: include: the files include each other")
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise UserError(f"{path}: holds no keys; see the recipes' conf folders for examples")
    included = _included(path, tree)
    # Before files are merged, because they may be of different versions.
    tree = migrated(tree)
    merged: Tree = {}
    for base in included:
        below = _read_tree(path.parent / base, (*including, identity))
        merged = _merge(_with_default_kinds(merged, Config), below, Config)
    # A file that includes nothing keeps its sections without kinds as they are; `parse_config` fills them in.
    return _merge(_with_default_kinds(merged, Config), tree, Config) if merged else tree


def _included(path: Path, tree: Tree) -> list[str]:
    """Take the names of the included files out of a tree."""
    bases = tree.pop("include", [])
    names = bases if isinstance(bases, list) else [bases]
    if not all(isinstance(name, str) and name and "\0" not in name for name in names):
        raise UserError(f"{path}: include: must be the name of a file or a list of names, got {_shown(bases)}")
    return names


def _override_tree(override: str) -> Tree:
    """Turn ``a.b=value`` into nested mappings; the key is completed and checked against the schema."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {override}: must look like key=value, e.g. encoder.num_layers=6")
    value = parse_yaml(text, f"--set {override}: the value")
    # From the inside out: {"b": value}, then {"a": {"b": value}}.
    for part in reversed(_complete(key.strip().split("."), override)):
        value = {part: value}
    return migrated(value)


def _complete(parts: list[str], override: str) -> list[str]:
    """Return the full path of a key whose leading sections may be left out."""
    if parts[0] not in fields_of(Config):
        found = [path for path in _section_paths(Config) if path[-1] == parts[0]]
        if len(found) > 1:
            names = ", ".join(".".join(path) for path in found)
            raise UserError(f"--set {override}: {parts[0]} may mean {names}; write it in full")
        if not found:
            known = [*fields_of(Config), *(path[-1] for path in _section_paths(Config))]
            raise UserError(f"--set {override}: unknown key {parts[0]}{_did_you_mean(parts[0], known)}")
        parts = [*found[0], *parts[1:]]
    # Keys of earlier versions are unknown to the schema; `_override_tree` replaces them.
    if tuple(parts) in OLD_KEYS:
        return parts
    choices: list[type[Section]] = [Config]
    for part in parts:
        # Below a field that is no section, such as ``space.units``, any key may follow.
        if not choices:
            break
        known = [key for choice in choices for key in fields_of(choice)]
        if part not in known:
            raise UserError(f"--set {override}: unknown key {part}{_did_you_mean(part, known)}")
        choices = _sections_below(choices, part)
    return parts


def _section_paths(section: type[Section], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the paths of all sections below one, each once."""
    paths: list[tuple[str, ...]] = []
    for name, field in fields_of(section).items():
        choices = sections_of(field.annotation)
        if choices:
            paths.append((*prefix, name))
        for choice in choices:
            paths.extend(_section_paths(choice, (*prefix, name)))
    # Kinds with the same subsections produce the same paths; a dictionary drops repetitions and keeps the order.
    return list(dict.fromkeys(paths))


def _merge(base: Tree, over: Tree, section: type[Section] | None) -> Tree:
    """Return ``base`` with the keys of ``over``; mappings are merged, everything else is replaced.

    Args:
        section: the class of the mapping, None for a free mapping such as ``space.units``, from which a null removes a
            key.
    """
    merged = dict(base)
    for key, value in over.items():
        if section is None and value is None:
            merged.pop(key, None)
            continue
        below = merged.get(key)
        field = fields_of(section).get(key) if section is not None else None
        choices = [] if field is None else sections_of(field.annotation)
        if isinstance(value, dict) and isinstance(below, dict) and not _other_kind(choices, below, value):
            merged[key] = _merge(below, value, _chosen(choices, below))
        else:
            merged[key] = value
    return merged


def _chosen(choices: Sequence[type[Section]], value: Tree) -> type[Section] | None:
    """Return the section class of a mapping, None for a free mapping."""
    return choices[0] if len(choices) == 1 else kinds_of(choices).get(str(value.get("kind")))


def _other_kind(choices: Sequence[type[Section]], below: Tree, value: Tree) -> bool:
    """Whether a mapping names another kind than the one that it overrides."""
    return len(kinds_of(choices)) > 1 and "kind" in value and value["kind"] != below.get("kind")


def _with_default_kinds(tree: Tree, section: type[Section]) -> Tree:
    """Return ``tree`` with the default ``kind`` in all sections that leave it out."""
    filled = dict(tree)
    for name, field in fields_of(section).items():
        value = filled.get(name)
        choices = sections_of(field.annotation)
        if not isinstance(value, dict) or not choices:
            continue
        if len(kinds_of(choices)) > 1 and "kind" not in value:
            default = field.get_default(call_default_factory=True)
            value = {"kind": default.kind, **value}
        choice = _chosen(choices, value)
        filled[name] = value if choice is None else _with_default_kinds(value, choice)
    return filled
