"""A subnet is plain data: frozen, hashable, comparable, convertible to JSON, with a short stable id."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

Ranges = tuple[tuple[int, int], ...]
"""Sets of units as ``(start, stop)`` pairs: ``((0, 96), (192, 288))`` holds 0 to 95 and 192 to 287. In a `Subnet` they
rise and neither overlap nor touch, so that equal sets are equal ranges."""

Units = int | Ranges
"""The units of a layer that run: the first ``k``, or those in these ranges."""

KEYS = ("width", "path", "units", "head", "pathway")
"""Keys of a subnet in JSON."""

ANY_LANGUAGE = "all"
"""Name of a pathway that serves every language."""


@dataclass(frozen=True, order=True)
class Subnet:
    """The part of the shared weights that runs, described by five genes.

    Attributes:
        width: fraction of channels that are kept everywhere, ``0 < width <= 1`` (prefix slices).
        path: encoder layer ids in running order; None = all layers. A prefix is a depth; shared low layers followed by
            other ids are a branch.
        units: sorted pairs ``("<layer id>.<module>", units)``: the FFN channels, heads or modules that run in a layer,
            out of those that the width allows. 0 or ``()`` omits the module. A list of indices becomes ranges, and
            units that are a prefix become their number.
        head: name of the output that the subnet uses, such as ``exit4``; None = the model's main output.
        pathway: name of the masks that choose among its weights, which is the language of the pathway, or ``all`` for a
            pathway of every language; "" = no masks, all weights.

    Genes of layers outside ``path`` are removed at construction, so equal networks are equal subnets.
    """

    width: float = 1.0
    path: tuple[int, ...] | None = None
    units: tuple[tuple[str, Units], ...] = ()
    head: str | None = None
    pathway: str = ""

    def __post_init__(self) -> None:
        if not 0.0 < self.width <= 1.0:
            raise ValueError(f"width: must be above 0 and at most 1, got {self.width}")
        if self.head == "":
            raise ValueError("head: must be the name of an output, or absent for the main output")
        kept = []
        for key, units in self.units:
            layer = int(key.split(".", 1)[0])
            if self._runs(layer):
                kept.append((key, _canonical(key, units)))
        # Sorted by the number of the layer: as text, "10.ffn" would come before "9.ffn".
        kept.sort(key=lambda gene: _layer_and_module(gene[0]))
        # The only way to set a field of a frozen data class
        object.__setattr__(self, "units", tuple(kept))

    def _runs(self, layer: int) -> bool:
        return self.path is None or layer in self.path

    def units_of(self, layer: int, module: str) -> Units | None:
        """Return the chosen units of one module of one layer; None = all that the width allows."""
        return dict(self.units).get(f"{layer}.{module}")

    def serves(self, language: str) -> bool:
        """Return whether the subnet is meant for speech in a language: a pathway for its own, others for any."""
        return self.pathway in ("", ANY_LANGUAGE, language)

    @property
    def id(self) -> str:
        """Short stable name for paths and tables: ``w0.5``, ``w1-l9``, ``w1-l9-3fa2c1d0``, ``w1-l4-exit4``, ``fr``."""
        if self.pathway and self == Subnet(pathway=self.pathway):
            return _plain_name(self.pathway)
        parts = [f"w{self.width:g}"]
        if self.path is not None:
            parts.append(f"l{len(self.path)}")
        prefix = None if self.path is None else tuple(range(len(self.path)))
        # Width and depth describe a plain slice; anything else needs a hash of the whole subnet.
        if self.units or self.path != prefix:
            parts.append(hashlib.sha256(self.to_json().encode()).hexdigest()[:8])
        if self.head is not None:
            parts.append(_plain_name(self.head))
        if self.pathway:
            parts.append(_plain_name(self.pathway))
        return "-".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain JSON data, without genes that keep everything."""
        data: dict[str, Any] = {"width": self.width}
        if self.path is not None:
            data["path"] = list(self.path)
        if self.head is not None:
            data["head"] = self.head
        if self.pathway:
            data["pathway"] = self.pathway
        if self.units:
            data["units"] = {key: _plain(units) for key, units in self.units}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Subnet:
        """Read what `to_dict` returns.

        Raises:
            ValueError: a key is unknown, a value has a wrong type, or the width is outside (0, 1].
        """
        unknown = set(data) - set(KEYS)
        if unknown:
            raise ValueError(f"unknown subnet key {sorted(unknown)[0]!r}; known: {', '.join(KEYS)}")
        width = data.get("width", 1.0)
        path = data.get("path")
        units = data.get("units", {})
        head = data.get("head")
        pathway = data.get("pathway", "")
        # In Python a bool is an int, but not a width.
        if not isinstance(width, int | float) or isinstance(width, bool):
            raise ValueError(f"width: must be a number, got {width!r}")
        if path is not None and not _is_list_of_ints(path):
            raise ValueError(f"path: must be a list of layer ids such as [0, 1, 2], got {path!r}")
        if not isinstance(units, Mapping):
            raise ValueError(f'units: must look like {{"3.ffn": 512}}, got {units!r}')
        if head is not None and not isinstance(head, str):
            raise ValueError(f'head: must be the name of an output such as "exit4", got {head!r}')
        if not isinstance(pathway, str):
            raise ValueError(f'pathway: must be the name of a pathway such as "fr", got {pathway!r}')
        chosen = tuple((str(key), _read_units(str(key), value)) for key, value in units.items())
        return cls(float(width), None if path is None else tuple(path), chosen, head, pathway)

    def to_json(self) -> str:
        """Convert to one line of JSON with sorted keys, so that equal subnets have equal strings."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Subnet:
        """Read what `to_json` returns.

        Raises:
            ValueError: the text is not JSON, or not a subnet (see `from_dict`).
        """
        try:
            return cls.from_dict(json.loads(text))
        except RecursionError:  # many nested brackets, from a user or a damaged file
            raise ValueError("nested too deeply") from None


def refuse_pathway(subnet: Subnet | None) -> None:
    """Refuse to run a pathway on shared weights, of which it needs a part: it is cut out first (`SpeechModel.extract`).

    Raises:
        ValueError: the subnet is a pathway.
    """
    if subnet is not None and subnet.pathway:
        raise ValueError(f"pathway {subnet.pathway} must be cut out of the model before it runs (models.prepared)")


def exit_name(depth: int) -> str:
    """Return the name of the output after so many layers (``model.exits``)."""
    return f"exit{depth}"


def with_exit(subnet: Subnet, exits: Collection[int]) -> Subnet:
    """Return a subnet with the head of its depth, if it names no head and its layers are those up to an exit.

    A subnet without a path is the full depth with the main output, also if there is an exit after the last layer.

    Args:
        subnet: the subnet.
        exits: numbers of layers after which the model has an output of its own.
    """
    path = subnet.path
    if subnet.head is not None or path is None:
        return subnet
    depth = len(path)
    ends_there = depth in exits and path == tuple(range(depth))
    return replace(subnet, head=exit_name(depth)) if ends_there else subnet


def scaled(size: int, width: float) -> int:
    """Return the number of ``size`` channels that a width keeps (paper 1: n_w = round(w n), at least 1).

    Raises:
        ValueError: ``width * size`` is not a whole number above 0.
    """
    exact = size * width
    whole = round(exact)
    # The tolerance is for widths such as 0.7, which have no exact binary form.
    if whole < 1 or abs(exact - whole) > 1e-6:
        raise ValueError(f"width {width:g} of {size} channels is {exact:g}, not a whole number above 0")
    return whole


def unit_count(units: Units) -> int:
    """Return the number of chosen units."""
    return units if isinstance(units, int) else sum(stop - start for start, stop in units)


def ranges_of(indices: Iterable[int]) -> Ranges:
    """Return a set of indices as ranges."""
    return _joined((index, index + 1) for index in indices)


def _joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Sort ranges and join those that overlap or touch."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if joined and start <= joined[-1][1]:
            first, last = joined[-1]
            joined[-1] = (first, max(last, stop))
        else:
            joined.append((start, stop))
    return tuple(joined)


def _is_list_of_ints(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, int) for item in value)


def _is_list_of_ranges(value: object) -> bool:
    """Return whether this is a list of pairs such as [[0, 96], [192, 288]]."""
    if not isinstance(value, list | tuple):
        return False
    return all(_is_list_of_ints(pair) and len(pair) == 2 and 0 <= pair[0] < pair[1] for pair in value)


def _read_units(key: str, value: Any) -> Units:
    """Check one entry of ``units`` in JSON."""
    layer, dot, module = key.partition(".")
    if not (layer.isdecimal() and dot and module):
        raise ValueError(f'units: {key!r} must be a layer and its module, such as "3.ffn"')
    if isinstance(value, int):
        return value
    if _is_list_of_ints(value):
        return ranges_of(value)
    if _is_list_of_ranges(value):
        return tuple((start, stop) for start, stop in value)
    raise ValueError(
        f"units of {key}: must be a number of units, a list of [start, stop] ranges or a list of indices, got {value!r}"
    )


def _canonical(key: str, units: Units | Iterable[int]) -> Units:
    """Sort and join the ranges of a module, and turn indices into ranges; a set that is a prefix becomes its length."""
    if isinstance(units, int):
        ranges: Ranges = ((0, units),)
    else:
        ranges = _joined((item, item + 1) if isinstance(item, int) else item for item in units)
    if not ranges:
        return 0
    start, stop = ranges[0]
    if start < 0 or stop < 0:
        raise ValueError(f"units of {key}: must not be negative, got {units!r}")
    return stop if len(ranges) == 1 and start == 0 else ranges


def _plain_name(name: str) -> str:
    """Replace what does not belong into an id by underscores."""
    return re.sub(r"[^A-Za-z0-9.]", "_", name)


def _plain(units: Units) -> int | list[list[int]]:
    """Convert units to JSON data."""
    return units if isinstance(units, int) else [list(pair) for pair in units]


def _layer_and_module(key: str) -> tuple[int, str]:
    """Split ``"3.ffn"`` into 3 and ``"ffn"``."""
    layer, module = key.split(".", 1)
    return int(layer), module
