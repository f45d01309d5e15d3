"""The types of keys as a user would write them: ``integer >= 1``, ``greedy | modified_beam``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from slimasr.config.section import Bounds, Called, kinds_of, sections_of

WORDS = {str: "text", Path: "path", bool: "true | false"}
HOW_MANY = {2: "two", 3: "three", 4: "four"}
GROUPS = {2: "pairs"}


def phrase(annotation: Any, metadata: Sequence[Any] = (), *, plural: bool = False) -> str:
    """Describe a type in words.

    Args:
        annotation: the type of a field, or of a part of one.
        metadata: the other arguments of its ``Annotated``, such as `Bounds`.
        plural: whether the words are about several values.
    """
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    # Annotations nest: metadata of the outer ones stay in front, and the first of a kind counts.
    if origin is Annotated:
        return phrase(arguments[0], (*metadata, *arguments[1:]), plural=plural)
    if origin in (Union, UnionType):
        return _union(annotation, metadata)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin is list:
        return f"{_counted('list', plural=plural)} of {phrase(arguments[0], plural=True)}"
    if origin is tuple:
        of_each = phrase(arguments[0], plural=True)
        return f"{GROUPS[len(arguments)]} of {of_each}" if plural else f"{HOW_MANY[len(arguments)]} {of_each}"
    if origin is dict:
        return f"mapping of {phrase(arguments[0])} to {phrase(arguments[1])}"
    if sections_of(annotation):
        return _counted("section", plural=plural)
    if annotation in (int, float):
        return _number(annotation, metadata, plural=plural)
    called = next((item.name for item in metadata if isinstance(item, Called)), None)
    return _counted(called or WORDS[annotation], plural=plural)


def _union(annotation: Any, metadata: Sequence[Any]) -> str:
    """Return ``X | Y`` with null last; sections among which ``kind`` chooses count as one."""
    choices = [choice for choice in get_args(annotation) if choice is not NoneType]
    words = [phrase(choice, metadata) for choice in choices if not sections_of(choice)]
    sections = sections_of(annotation)
    if len(sections) > 1:
        words.insert(0, f"section (kind: {' | '.join(kinds_of(sections))})")
    elif sections:
        words.insert(0, phrase(sections[0]))
    return " | ".join([*words, "null"] if NoneType in get_args(annotation) else words)


def _number(kind: type, metadata: Sequence[Any], *, plural: bool) -> str:
    """Return words such as ``integers >= 1`` or ``fraction in [0, 1)``."""
    bounds = next((item for item in metadata if isinstance(item, Bounds)), None)
    word = "integer" if kind is int else "number"
    if bounds is None:
        return _counted(word, plural=plural)
    if kind is float and (bounds.low, bounds.high) == (0.0, 1.0):
        word = "fraction"
    return f"{_counted(word, plural=plural)} {bounds.interval}"


def _counted(word: str, *, plural: bool) -> str:
    return f"{word}s" if plural else word
