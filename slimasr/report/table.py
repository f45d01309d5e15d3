"""A table as data: the page, RESULTS.md and the terminal only differ in how they draw it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_NUMBER = re.compile(r"^[+\-−]?[\d,.]+( ?%|x)?( \[.*\])?( \(unpaired\))?$")
ABSENT = "–"
"""The cell of a figure that was not measured."""

ON_FRONT = "*"
"""The cell of a subnet that is on a Pareto front. The note of the table says of which one."""

Place = Literal["top", "middle", "bottom"]


@dataclass(frozen=True)
class Table:
    """Rows of text under a heading; ``place``: where on the page."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    place: Place = "middle"

    def text_columns(self) -> list[bool]:
        """For every column, whether it holds words (left-aligned) rather than figures."""
        cells = zip(*self.rows, strict=True) if self.rows else ((name,) for name in self.columns)
        return [not all(cell == ABSENT or _NUMBER.match(cell) for cell in column) for column in cells]

    def markdown(self) -> str:
        """The table in GitHub's Markdown."""
        rule = ["---" if text else "---:" for text in self.text_columns()]
        lines = [_line(row) for row in (self.columns, rule, *self.rows)]
        note = f"\n{self.note}\n" if self.note else ""
        return f"## {self.title}\n{note}\n" + "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"
