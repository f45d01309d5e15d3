"""The description of every key: its type in words, its default, and the sentence below it in the source.

Nothing is written down twice: types, ranges and defaults are those of the schema, and the sentence of a key is the
string below its field.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from slimasr.config.corpora import CORPUS_OPTIONS
from slimasr.config.data import DataConfig
from slimasr.config.phrases import phrase
from slimasr.config.schema import Config
from slimasr.config.section import Section, attribute_of, fields_of, kinds_of, sections_of
from slimasr.errors import UserError

ENTRY = "N"
"""This part of a name stands for the number of an entry in a list: ``method.phases.N.epoch``."""


@dataclass(frozen=True)
class Key:
    """One key of a section.

    Attributes:
        name: full name, such as ``training.num_epochs``.
        type: type in words, with its range or its choices.
        default: default in YAML; None if the key must be given.
        sentence: what the key is; empty if the source does not say it.
    """

    name: str
    type: str
    default: str | None
    sentence: str

    @property
    def last_name(self) -> str:
        """The name within the section."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True)
class Part:
    """One section, or one of the kinds of a section.

    Attributes:
        names: full names by which it is found: ``model.encoder`` and, for a kind, ``model.encoder.conformer``; empty
            strings for the top level.
        choice: the setting that chooses this kind, such as ``kind: conformer (default)``; empty for a section without
            kinds.
        section: the class.
        keys: the keys in the order of the source.
        same_as: the name of another part with the same keys, which are then left out here.
    """

    names: tuple[str, ...]
    choice: str
    section: type[Section]
    keys: tuple[Key, ...]
    same_as: str = ""

    @property
    def name(self) -> str:
        """Full name of the section."""
        return self.names[0]

    @property
    def title(self) -> str:
        """Name and kind of the section."""
        return f"{self.name}, {self.choice}" if self.choice else self.name or "top level"

    @property
    def summary(self) -> str:
        """What the section is."""
        return _one_line(self.section.__doc__ or "")


@cache
def all_parts() -> tuple[Part, ...]:
    """Return all parts of a configuration, each before the sections in it."""
    return tuple(_parts(Config, ("",)))


def without_repetition(parts: Sequence[Part]) -> list[Part]:
    """Return the same parts, with the keys of a section that occurs in several places only below its shortest name."""
    # Shortest means fewest dots. Sorting is stable, so the source decides between names of equal depth.
    first: dict[type[Section], Part] = {}
    for part in sorted(parts, key=lambda part: part.name.count(".")):
        first.setdefault(part.section, part)
    return [
        part if part is first[part.section] else replace(part, keys=(), same_as=first[part.section].name)
        for part in parts
    ]


def find_parts(name: str) -> list[Part]:
    """Find the parts that a user means by the name of a section or a key, with the sections in them.

    The name may leave out leading sections, and it may end in a kind or a corpus: ``encoder``, ``method.todm``,
    ``training.num_epochs``, ``data.options.an4``. Of other sections, only the keys of that name are returned.

    Raises:
        UserError: nothing has this name; the message suggests the most similar name.
    """
    wanted = _without_entries(name)
    known = _all_names()
    # A full name means one thing; a shortened name means everything that ends in it.
    meant = {wanted} if wanted in known else {full for full in known if full.endswith(f".{wanted}")}
    if not meant:
        raise UserError(f"{name}: no section or key has this name{_suggestion(wanted, known)}")
    found = []
    for part in all_parts():
        if any(_is_in(_without_entries(own), meant) for own in part.names):
            found.append(part)
            continue
        # The part itself was not asked for, but perhaps some of its keys.
        keys = tuple(key for key in part.keys if meant.intersection(_names_of(part, key)))
        if keys:
            found.append(replace(part, keys=keys))
    return found


def _parts(
    section: type[Section],
    names: tuple[str, ...],
    choice: str = "",
    inherited: Sequence[str] = (),
    *,
    needs_kind: bool = False,
) -> Iterator[Part]:
    """Yield the part of a section, and those of the sections in it.

    Args:
        names, choice: see `Part`.
        inherited: keys that another part describes for all kinds.
        needs_kind: whether a section without ``kind`` would be of another kind.
    """
    # All names of a section have the same keys; `Key.name` uses the first of them.
    shown = [name for name in fields_of(section) if name not in inherited]
    keys = [_key(section, name, names[0]) for name in shown]
    if needs_kind:
        # The class has a default, but somebody who leaves ``kind`` out gets another class.
        keys = [replace(key, default=None) if key.last_name == "kind" else key for key in keys]
    yield Part(names, choice, section, tuple(keys))
    for name in shown:
        yield from _parts_below(section, name, tuple(_join(own, name) for own in names))


def _parts_below(section: type[Section], name: str, names: tuple[str, ...]) -> Iterator[Part]:
    """Yield the parts of all sections that a field may hold; keys that all its kinds inherit come first, and once."""
    # The schema knows ``data.options`` as a mapping only, because its keys depend on ``data.corpus``.
    if section is DataConfig and name == "options":
        for corpus, options in CORPUS_OPTIONS.items():
            yield from _parts(options, _with_kinds(names, [corpus]), f"corpus: {corpus}")
        return
    field = fields_of(section)[name]
    choices = sections_of(field.annotation, in_lists=True)
    # Sections that are found in lists only: their names hold the number of the entry.
    if choices and not sections_of(field.annotation):
        names = tuple(_join(own, ENTRY) for own in names)
    if len(choices) == 1:
        yield from _parts(choices[0], names)
        return
    # The class of the default section, which decides what a missing ``kind`` means. In ``X | None = None`` it is
    # NoneType, so that no kind is the default one.
    default = None if field.is_required() else type(field.get_default(call_default_factory=True))
    base, inherited = _inherited(choices)
    if inherited:
        keys = tuple(_key(base, key, names[0]) for key in inherited)
        yield Part(_with_kinds(names, list(kinds_of(choices))), "all kinds", base, keys)
    for key in inherited:
        yield from _parts_below(base, key, tuple(_join(own, key) for own in names))
    for choice in choices:
        kinds = list(kinds_of([choice]))
        title = f"kind: {' | '.join(kinds)}{' (default)' if choice is default else ''}"
        yield from _parts(choice, _with_kinds(names, kinds), title, inherited, needs_kind=choice is not default)


def _inherited(choices: Sequence[type[Section]]) -> tuple[type[Section], list[str]]:
    """Return the section from which all kinds are derived, and the keys that none of them declares again."""
    if not choices:
        return Section, []
    # The nearest common base: bases are listed from the nearest to the farthest, and the first is the class itself.
    base = next(cls for cls in choices[0].__mro__[1:] if all(issubclass(choice, cls) for choice in choices))
    assert issubclass(base, Section)
    return base, [name for name in fields_of(base) if all(_owner(choice, name) is base for choice in choices)]


def _key(section: type[Section], name: str, place: str) -> Key:
    field = fields_of(section)[name]
    words = phrase(field.annotation, field.metadata)
    return Key(_join(place, name), words, _default(field), sentence_of(section, name))


def _default(field: FieldInfo) -> str | None:
    """Return the default of a field in YAML; of a section, only what makes it differ from an empty one."""
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Section):
        content = value.model_dump(mode="json", exclude_defaults=True)
        # ``kind`` equals its own default and is therefore not in ``content``.
        has_kinds = len(sections_of(field.annotation)) > 1
        value = {"kind": value.model_dump()["kind"], **content} if has_kinds else content
    # YAML has no tuples.
    return _yaml(list(value) if isinstance(value, tuple) else value)


def _yaml(value: Any) -> str:
    """Write a value as one line of YAML."""
    # After a plain number or word, YAML marks the end of the document by "...".
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False)
    return text.removesuffix("...\n").strip()


def sentence_of(section: type[Section], name: str) -> str:
    """Return the string below a field in the class that declares it, or an empty string."""
    owner = _owner(section, name)
    return _strings_below_fields(owner.__module__).get((owner.__name__, attribute_of(name)), "")


def _owner(section: type[Section], name: str) -> type:
    """Return the class that declares a field, which may be a base of the section."""
    return next(cls for cls in section.__mro__ if attribute_of(name) in inspect.get_annotations(cls))


@cache
def _strings_below_fields(module: str) -> dict[tuple[str, str], str]:
    """Return (class, field) -> the string below it, for all classes of a module."""
    # Python drops these strings, so they are read from the source.
    found = {}
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, below in itertools.pairwise(node.body):
            text = _text_of(below)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and text is not None:
                found[node.name, field.target.id] = text
    return found


def _text_of(node: ast.stmt) -> str | None:
    """Return the text of a statement that is only a string, on one line; None for other statements."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return _one_line(node.value.value)
    return None


def _with_kinds(names: tuple[str, ...], kinds: Sequence[str]) -> tuple[str, ...]:
    """The names of a section, and the same names with each kind at their end."""
    return (*names, *(_join(own, kind) for own in names for kind in kinds))


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _without_entries(name: str) -> str:
    """A name without the numbers of entries of lists."""
    return ".".join(part for part in name.split(".") if part != ENTRY and not part.isdecimal())


def _names_of(part: Part, key: Key) -> list[str]:
    """All names by which a key is found."""
    return [_without_entries(_join(own, key.last_name)) for own in part.names]


def _all_names() -> set[str]:
    """The names of all sections and keys, without entries of lists."""
    sections = {_without_entries(own) for part in all_parts() for own in part.names if own}
    return sections.union(*(_names_of(part, key) for part in all_parts() for key in part.keys))


def _is_in(name: str, sections: set[str]) -> bool:
    """Whether a section is one of these or lies in one of them."""
    parts = name.split(".")
    # All beginnings of the name: a, a.b, a.b.c.
    return any(".".join(parts[:length]) in sections for length in range(1, len(parts) + 1))


def _suggestion(wanted: str, known: set[str]) -> str:
    """Suggest the most similar known name; its leading sections count only if they were given."""
    depth = wanted.count(".") + 1
    # Shorter names are entered last, so that they win over longer ones with the same end.
    by_end = {".".join(full.split(".")[-depth:]): full for full in sorted(known, key=len, reverse=True)}
    close = difflib.get_close_matches(wanted, by_end, n=1, cutoff=0.6)
    return f" (did you mean {by_end[close[0]]}?)" if close else "; slimasr config lists all of them"


def _one_line(text: str) -> str:
    return " ".join(text.split())
