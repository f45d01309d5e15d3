"""A table as data. The page, RESULTS.md and the terminal only differ in how they draw it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# A figure: sign, digits, unit, interval and the mark of an unpaired comparison; for example "+0.31 [-0.20, +0.82]".
_NUMBER = re.compile(r"^[+\-−]?[\d,.]+( ?%|x)?( \[.*\])?( \(unpaired\))?$")

ABSENT = "–"
"""The cell of a figure that was not measured."""

ON_FRONT = "*"
"""The cell of a subnet that is on a Pareto front. The note of the table says of which one."""

Place = Literal["top", "middle", "bottom"]


@dataclass(frozen=True)
class Table:
    """Rows of text under a heading.

    Attributes:
        title: the heading.
        columns: headings of the columns.
        rows: cells as text, each row as long as ``columns``.
        note: a text between the heading and the rows, may be empty.
        place: where on the page the table stands.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    place: Place = "middle"

    def text_columns(self) -> list[bool]:
        """For every column, whether it holds words (left-aligned) rather than figures."""
        # ``zip(*rows)`` transposes the rows; a table without rows is judged by its headings, so that it has columns.
        cells = zip(*self.rows, strict=True) if self.rows else ((name,) for name in self.columns)
        return [not _is_numeric(column) for column in cells]

    def markdown(self) -> str:
        """Return the table in GitHub's Markdown."""
        rule = ["---" if text else "---:" for text in self.text_columns()]
        lines = [_line(row) for row in (self.columns, rule, *self.rows)]
        note = f"\n{self.note}\n" if self.note else ""
        return f"## {self.title}\n{note}\n" + "\n".join(lines) + "\n"


def _is_numeric(column: Sequence[str]) -> bool:
    return all(cell == ABSENT or _NUMBER.match(cell) for cell in column)


def _line(cells: Sequence[str]) -> str:
    # A vertical bar inside a cell would end the cell.
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"
