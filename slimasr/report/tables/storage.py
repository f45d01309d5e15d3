"""The table of the bytes that pathways take."""

from __future__ import annotations

from collections.abc import Mapping

from slimasr.report.tables.table import Table

_FORMS: Mapping[str, str] = {
    "dense": "dense",
    "packed": "packed",
    "zipped": "dense, zipped",
    "packed_zipped": "packed, zipped",
}
"""The forms in which weights are stored, and the ends of the headings of their columns."""

_NOTE = (
    "Thousand bytes, and the share of the dense ones. Packed: of masked matrices kept weights, and one bit per block."
)


def storage_table(found: Mapping[str, Mapping[str, Mapping[str, int]]], name: str) -> Table:
    """Make the table of stored bytes.

    Args:
        found: what is stored -> ``floats`` and ``int8`` -> form -> bytes.
        name: the experiment.
    """
    kinds = {"floats": "float", "int8": "int8"}
    columns = ("stored", *(f"{kind} {heading}" for kind in kinds.values() for heading in _FORMS.values()))
    rows = []
    for stored, sizes in found.items():
        cells = [_cell(sizes[kind][form], sizes[kind]["dense"]) for kind in kinds for form in _FORMS]
        rows.append((stored, *cells))
    return Table(f"Storage, {name}", columns, tuple(rows), _NOTE)


def _cell(size: int, dense: int) -> str:
    thousands = f"{size / 1e3:.1f}"
    return thousands if size == dense else f"{thousands} ({size / dense:.2f})"
