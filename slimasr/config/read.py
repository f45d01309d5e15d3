"""Strict reading of YAML: repeated keys and data that contain themselves are refused, and errors have one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from slimasr.errors import UserError
from slimasr.textfiles import decode_text

MOST_VALUES = 100_000
"""Values in a file, with every alias counted as often as it is used: a few lines of YAML can stand for billions."""
DEEPEST = 50


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        UserError: the file cannot be read or is not YAML, gives a key twice, or refers to itself.
    """
    try:
        text = decode_text(path, path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # a NUL byte in the name
        raise UserError(f"{str(path)!r}: cannot be read ({error})") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Any:
    """Parse a YAML text.

    Args:
        source: names the text in errors.

    Raises:
        UserError: see `read_yaml`.
    """
    try:
        data = yaml.load(text, Loader=_StrictLoader)
    except RecursionError:
        raise UserError(f"{source}: not valid YAML (nested too deeply)") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:  # dates and numbers surface as Python's own errors
        raise UserError(f"{source}: not valid YAML ({' '.join(str(error).split())[:300]})") from None
    _count(data, source, 0, 0)
    return data


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader with an error for repeated keys, of which PyYAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            # ``<<`` may occur more than once. PyYAML itself refuses keys that are lists or mappings.
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                continue
            line = key_node.start_mark.line + 1
            if key_node.value in seen:
                lines = f"{seen[key_node.value]} and {line}"
                raise yaml.YAMLError(f"key {key_node.value!r} is given twice, in lines {lines}")
            seen[key_node.value] = line
        return super().construct_mapping(node, deep)


def _count(data: Any, source: str, depth: int, number: int) -> int:
    """Add the number of values in ``data`` to ``number``.

    Raises:
        UserError: the data are nested too deeply, contain themselves, or expand to too many values.
    """
    # An alias that contains itself never ends, so the depth finds it.
    if depth > DEEPEST:
        raise UserError(f"{source}: not valid YAML (nested too deeply, or an alias that refers to itself)")
    number += 1
    if number > MOST_VALUES:
        raise UserError(f"{source}: not valid YAML (more than {MOST_VALUES} values)")
    if isinstance(data, dict):
        data = list(data.values())
    if isinstance(data, list):
        for item in data:
            number = _count(item, source, depth + 1, number)
    return number
