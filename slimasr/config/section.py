"""What all sections of the configuration have in common, and the ranges of their numbers.

Every number of the schema has one of the types below, so that each has a range and none can be NaN or infinite.
"""

from __future__ import annotations

import json
import keyword
import math
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler, PlainValidator
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

if TYPE_CHECKING:
    from slimasr.config.schema import Config

LARGEST_INT = 2**31 - 1
"""The default upper bound of whole numbers: what 32-bit sizes of the libraries can hold."""

# YAML 1.1 reads a number such as 1e-3, which has an exponent but no point, as a string.
_WITH_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


@dataclass(frozen=True)
class Bounds:
    """The range of a number, as metadata of an annotated ``int`` or ``float``.

    Booleans, strings, NaN and infinite numbers are refused whatever the bounds are.

    Attributes:
        low: the smallest value, or the one that all values exceed (``above``).
        high: the largest value, or the one that all values stay below (``below``); None = no upper bound.
    """

    low: float
    high: float | None = None
    above: bool = False
    below: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema of the number, with `check` before it."""
        # ``source`` is the annotated type; pydantic's own conversion after `check` changes nothing.
        whole = source is int

        def check(value: Any) -> int | float:
            return self.check(value, whole=whole)

        return core_schema.no_info_before_validator_function(check, handler(source))

    def check(self, value: Any, *, whole: bool) -> int | float:
        """Return the number that a value stands for.

        Args:
            whole: whether it must be a whole number.

        Raises:
            PydanticCustomError: the value stands for no number, or for one outside the range.
        """
        number = _number(value)
        if number is None or (whole and number != math.floor(number)):
            kind = "whole number" if whole else "number"
            raise PydanticCustomError("number", f"must be a {kind}, {self}")
        if not self.holds(number):
            # The message names a very large upper bound only to somebody who has exceeded it.
            too_large = self.high is not None and number >= self.high
            raise PydanticCustomError("range", f"must be {self.upper() if too_large and self.is_wide else self}")
        return int(number) if whole else float(number)

    def holds(self, number: int | float) -> bool:
        """Whether a number is within the range."""
        if number < self.low or (self.above and number == self.low):
            return False
        return self.high is None or number < self.high or (number == self.high and not self.below)

    @property
    def is_wide(self) -> bool:
        """Whether the upper bound is so large that descriptions leave it out."""
        return self.high is None or self.high >= LARGEST_INT

    def upper(self) -> str:
        """The upper bound in words."""
        return "" if self.high is None else f"{'below' if self.below else 'at most'} {_figure(self.high)}"

    @property
    def interval(self) -> str:
        """The range in mathematical notation: ``>= 1``, ``in (0, 1]``; very large upper bounds are left out."""
        if self.is_wide or self.high is None:
            return f"{'>' if self.above else '>='} {_figure(self.low)}"
        opening = "(" if self.above else "["
        closing = ")" if self.below else "]"
        return f"in {opening}{_figure(self.low)}, {_figure(self.high)}{closing}"

    def __str__(self) -> str:
        """Return the range in words: ``above 0 and at most 1``; very large upper bounds are left out."""
        lower = f"{'above' if self.above else 'at least'} {_figure(self.low)}"
        return lower if self.is_wide else f"{lower} and {self.upper()}"


def _number(value: Any) -> int | float | None:
    """Return the finite number that a value stands for, or None."""
    if isinstance(value, str) and _WITH_EXPONENT.fullmatch(value):
        value = float(value)
    # In Python, True is an int.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def _figure(value: float) -> str:
    return str(int(value)) if value == math.floor(value) else f"{value:g}"


Positive = Annotated[int, Bounds(1, LARGEST_INT)]
Natural = Annotated[int, Bounds(0, LARGEST_INT)]
Processes = Annotated[int, Bounds(0, 1024)]
Threads = Annotated[int, Bounds(1, 1024)]
Fraction = Annotated[float, Bounds(0.0, 1.0)]
PositiveFraction = Annotated[float, Bounds(0.0, 1.0, above=True)]
Rate = Annotated[float, Bounds(0.0, 1.0, below=True)]
PositiveFloat = Annotated[float, Bounds(0.0, above=True)]
NonNegativeFloat = Annotated[float, Bounds(0.0)]
MelBins = Annotated[int, Bounds(1, 1000)]


def _auto_or_threads(value: Any) -> int | str:
    """Return the value if it is ``auto`` or a number of threads; one message names both."""
    if value == "auto":
        return "auto"
    try:
        return int(Bounds(1, 1024).check(value, whole=True))
    except PydanticCustomError as error:
        raise PydanticCustomError(error.type, f"{error.message()}, or auto") from None


AutoThreads = Annotated[Threads | Literal["auto"], PlainValidator(_auto_or_threads)]


def _not_empty(value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise PydanticCustomError("empty", "must not be empty")
    return value


def _file_name(value: str) -> str:
    """Refuse names that cannot be part of a file name, as names of sets are."""
    if "/" in value or not value.isprintable() or value != value.strip() or value.startswith("."):
        raise PydanticCustomError("name", "must be a name that can be part of a file name, without / and line breaks")
    return value


def _product_name(value: str) -> str:
    """Refuse what cannot be part of a file name; an empty name is allowed."""
    return value and _file_name(value)


def _one_line(value: str) -> str:
    if not value.isprintable():
        raise PydanticCustomError("text", "must not hold line breaks or control characters")
    return value


@dataclass(frozen=True)
class Called:
    """The name of a type in the description of the configuration, as metadata of an annotated ``str``."""

    name: str


NotEmpty = BeforeValidator(_not_empty)
Text = Annotated[str, NotEmpty]
Line = Annotated[str, NotEmpty, AfterValidator(_one_line), Called("line of text")]
Location = Annotated[Path, NotEmpty]


def _as_json(value: Any) -> Any:
    """Turn a subnet in JSON, which YAML reads as a mapping, back into text."""
    return json.dumps(value) if isinstance(value, Mapping) else value


SubnetText = Annotated[str, NotEmpty, BeforeValidator(_as_json)]
SetName = Annotated[str, NotEmpty, AfterValidator(_file_name), Called("set name")]

ProductName = Annotated[str, AfterValidator(_product_name), Called("name of a product")]


def is_distinct(values: Sequence[Hashable]) -> bool:
    """Whether no value occurs twice."""
    return len(set(values)) == len(values)


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, and values do not change after validation.

    The string below every key says in one sentence what it is, its unit, and what extreme values mean.
    `slimasr.config.describe` reads it from the source when it is needed; pydantic's ``use_attribute_docstrings`` would
    read all sources whenever a program starts.
    """

    # The empty tuple allows keys whose names begin with ``model_``.
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    def check(self, config: Config) -> None:
        """Refuse a configuration whose other sections do not fit this one; `Config` calls it when it is read.

        Raises:
            ValueError: one line that begins with the full key, such as ``space.depths: ...``.
        """


def fields_of(section: type[Section]) -> dict[str, FieldInfo]:
    """Return the fields of a section by their keys in YAML, which differ from their names in Python for keywords."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def attribute_of(key: str) -> str:
    """Return the name in Python of a key in YAML."""
    return f"{key}_" if keyword.iskeyword(key) else key


def sections_of(annotation: Any, *, in_lists: bool = False) -> list[type[Section]]:
    """Return the sections that a field of this type may hold.

    Args:
        in_lists: whether sections in a list count as well.
    """
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    origin = get_origin(annotation)
    if origin in (Annotated, Union, UnionType) or (in_lists and origin is list):
        # Arguments of ``Annotated`` that are no types, such as a discriminator, hold no sections.
        return [section for part in get_args(annotation) for section in sections_of(part, in_lists=in_lists)]
    return []


def kinds_of(choices: Sequence[type[Section]]) -> dict[str, type[Section]]:
    """Return the values of ``kind`` that choose among sections, and the section that each of them chooses."""
    found: dict[str, type[Section]] = {}
    for choice in choices:
        if "kind" not in choice.model_fields:
            continue
        # ``kind`` is a Literal; one section may have several kinds, as learning rate schedules have.
        for kind in get_args(choice.model_fields["kind"].annotation):
            found[kind] = choice
    return found
