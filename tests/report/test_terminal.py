"""The same table drawn for a terminal and as plain text."""

from __future__ import annotations

import io

from rich.console import Console

from slimasr.report.tables.common import measurement_table
from slimasr.report.tables.table import ABSENT, ON_FRONT, Table
from slimasr.report.tables.terminal import plain_table, print_table
from slimasr.supernet.front import Measurement, find_front
from slimasr.supernet.subnet import Subnet

TABLE = Table(
    "Costs",
    ("subnet", "front", "params M", "RTF"),
    (("w1", "", "12.0", "0.1"), ("w0.5", ON_FRONT, "3.0", ABSENT)),
    "Note.",
)


def on_terminal(table: Table) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    print_table(table, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_plain_text_is_aligned() -> None:
    assert plain_table(TABLE).splitlines() == [
        "Costs",
        "subnet  front  params M  RTF",
        "w1                 12.0  0.1",
        "w0.5    *           3.0    –",
        "Note.",
    ]


def test_a_terminal_gets_the_same_cells() -> None:
    text = on_terminal(TABLE)
    assert all(cell in text for row in TABLE.rows for cell in row)


def test_what_a_search_prints_says_what_its_star_means() -> None:
    sizes = {1.0: 12e6, 0.75: 8e6, 0.5: 3e6}
    wers = {1.0: 8.0, 0.75: 8.5, 0.5: 8.0}
    measured = [Measurement(Subnet(width), wers[width], 0.1, {"params": size}) for width, size in sizes.items()]
    table = measurement_table(measured, find_front(measured, "params"), "dev", "params")
    assert [row[:3] for row in table.rows] == [("w0.5", "*", "8.00"), ("w0.75", "", "8.50"), ("w1", "", "8.00")]
    assert plain_table(table).splitlines()[-1] == "* = on the Pareto front of dev WER against params."
    assert "* = on the Pareto front" in on_terminal(table)


def test_brackets_are_shown_as_they_are() -> None:
    table = Table("WER", ("subnet", "WER %"), (("w1", "7.50 [6.00, 9.00]"),))
    assert "[6.00, 9.00]" in on_terminal(table)


def test_markdown_escapes_what_would_split_a_cell() -> None:
    table = Table("T", ("name", "WER %"), (("a|b", "7.5"),))
    assert table.markdown().splitlines()[-1] == "| a\\|b | 7.5 |"
