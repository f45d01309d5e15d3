"""The base of all entries of result files: typed keys, unknown keys that survive, errors that name a key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError
from pydantic_core import PydanticCustomError

from slimasr.errors import UserError
from slimasr.files import read_json, write_json_atomic
from slimasr.supernet.subnet import Subnet

E = TypeVar("E", bound="Entry")
F = TypeVar("F", bound="File")

VERSION = 1
"""Version of the layout that is written. It has to grow when readers of the old layout would misunderstand the new
one; a new key that they may overlook needs no new version."""

MEASURED_TOGETHER = ("languages",)
"""Keys of mappings that one measurement makes as a whole: a later one replaces them, also where it has fewer keys."""

NEEDED = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "int_type": "a whole number",
    "model_type": "a mapping",
    "string_type": "a text",
    "tuple_type": "a list",
}
"""Pydantic's name of an error -> what the value needs to be, in words."""


def _number(value: Any) -> int | float:
    """Return a number as it is, so that a whole one is written as a whole one again; pydantic's float converts it."""
    # In Python, True and False are whole numbers too.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticCustomError("number", "needs to be a number")
    return value


def _subnet(value: Any) -> Subnet:
    # Entries are made both from files and by code that has a subnet already.
    if isinstance(value, Subnet):
        return value
    if not isinstance(value, Mapping):
        raise PydanticCustomError("dict_type", "needs to be a mapping")
    return Subnet.from_dict(value)


Number = Annotated[int | float, PlainValidator(_number)]
# Strict, as pydantic would otherwise accept "3" and "yes" from a damaged file.
Whole = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Genes = Annotated[Subnet, PlainValidator(_subnet), PlainSerializer(Subnet.to_dict)]
"""A subnet, which is written to the file as plain data: ``{"width": 0.5}``."""


class Entry(BaseModel):
    """A mapping in a result file.

    Keys that no field stands for are kept as they are, so that a version which does not know them loses none of them
    when it changes a file. Only fields that were read or set are written.
    """

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        populate_by_name=True,
        protected_namespaces=(),
        use_attribute_docstrings=True,
        # Validators are built when they are first needed, so that commands can print their help without them.
        defer_build=True,
    )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class File(Entry):
    """A whole file. On disk it begins with ``version``; in memory it always has the present layout.

    Attributes:
        PLACE: its path in the folder that it describes.
        ADVICE: what the user can do when it is damaged.
    """

    PLACE: ClassVar[str]
    ADVICE: ClassVar[str]

    @classmethod
    def load(cls: type[F], path: Path) -> F:
        """Read a file.

        Raises:
            UserError: the file cannot be read, is damaged (the message names the key), or a newer version wrote it.
        """
        return cls.parse(read_json(path, cls.ADVICE), path)

    @classmethod
    def parse(cls: type[F], content: Mapping[str, Any], path: Path) -> F:
        """Read the JSON data that a file holds; ``path`` is for messages. Raises as `load`."""
        # A copy, as the caller's data are not to lose a key.
        content = dict(content)
        # Files that were written before layouts had versions have no such key, and the layout of version 1.
        version = content.pop("version", VERSION)
        if not isinstance(version, int) or isinstance(version, bool):
            raise UserError(f"{path}: damaged, version needs to be a whole number; {cls.ADVICE}")
        if version > VERSION:
            raise UserError(
                f"{path}: has the layout of version {version}, which a newer slimasr wrote; this one reads layouts up "
                f"to version {VERSION}: update slimasr"
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise UserError(f"{path}: damaged, {_damage(error)}; {cls.ADVICE}") from None

    @classmethod
    def read(cls: type[F], folder: Path) -> F | None:
        """Read the file of this kind in a folder; return None if there is none. Raises as `load`."""
        path = folder / cls.PLACE
        return cls.load(path) if path.exists() else None

    def save(self, path: Path) -> None:
        """Write the file in the present layout.

        Raises:
            UserError: the file cannot be written; what was there before is kept.
        """
        write_json_atomic(path, {"version": VERSION, **self.to_dict()})

    def write(self, folder: Path) -> None:
        """Write the file to its place in a folder. Raises as `save`."""
        self.save(folder / self.PLACE)


def merged(base: E, over: E) -> E:
    """Return an entry with what another one sets, mapping by mapping (but see `MEASURED_TOGETHER`); the rest stays.

    Args:
        base: the entry that is changed.
        over: only its keys that were set count, also those set to a default value.
    """
    # By plain data: `Entry.to_dict` leaves out what was never set, and unknown keys are merged as well.
    return type(base).model_validate(_deep_merge(base.to_dict(), over.to_dict()))


def _deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping) and key not in MEASURED_TOGETHER:
            result[key] = _deep_merge(below, value)
        else:
            result[key] = value
    return result


def _damage(error: ValidationError) -> str:
    """Say what is wrong first: the key, and what it needs to be."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    kind = first["type"]
    if kind == "missing":
        return f"{key} is missing"
    if kind in NEEDED:
        return f"{key} needs to be {NEEDED[kind]}"
    # The message of `_number` is the end of a sentence about the key.
    if kind == "number":
        return f"{key} {first['msg']}"
    # Pydantic puts its own words before the message of a ValueError.
    return f"{key}: {first['msg'].removeprefix('Value error, ')}"
