"""The same table drawn for a terminal and as plain text."""

from __future__ import annotations

import io

from rich.console import Console

from slimasr.report.tables import ABSENT, Table
from slimasr.report.terminal import plain_table, print_table

TABLE = Table(
    "Costs", ("subnet", "params M", "RTF"), (("w1", "12.0", "0.1"), ("w0.5", "3.0", ABSENT)), "Note.", frozenset({1})
)


def test_plain_text_is_aligned_and_marks_rows() -> None:
    assert plain_table(TABLE).splitlines() == [
        "Costs",
        "subnet  params M  RTF",
        "w1          12.0  0.1",
        "w0.5         3.0    – *",
        "Note.",
    ]


def test_a_terminal_gets_bold_rows_and_the_same_cells() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    print_table(TABLE, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[1m" in text
    assert all(cell in text for row in TABLE.rows for cell in row)


def test_brackets_are_shown_as_they_are() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    print_table(Table("WER", ("subnet", "WER %"), (("w1", "7.50 [6.00, 9.00]"),)), console)
    assert "[6.00, 9.00]" in console.file.getvalue()  # type: ignore[attr-defined]


def test_markdown_escapes_what_would_split_a_cell() -> None:
    table = Table("T", ("name", "WER %"), (("a|b", "7.5"),))
    assert table.markdown().splitlines()[-1] == "| a\\|b | 7.5 |"
