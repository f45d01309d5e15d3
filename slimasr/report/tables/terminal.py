"""Print tables: rich draws them on a terminal; files and pipes get aligned plain text."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from slimasr.report.tables.table import Table


def print_table(table: Table, console: Console | None = None) -> None:
    """Print a table on standard output."""
    console = console or Console()
    # A pipe or a file has no width to fit in, so rich must neither wrap cells nor draw lines.
    if not console.is_terminal:
        print(plain_table(table), file=console.file)
        return
    # ``Text`` keeps rich from reading brackets, such as those of intervals, as markup.
    drawn = RichTable(title=Text(table.title), box=box.SIMPLE_HEAD, title_justify="left", caption=Text(table.note))
    for name, text in zip(table.columns, table.text_columns(), strict=True):
        drawn.add_column(name, justify="left" if text else "right")
    for row in table.rows:
        drawn.add_row(*map(Text, row))
    console.print(drawn)


def plain_table(table: Table) -> str:
    """Return the table as aligned text, one line per row."""
    rows = [table.columns, *table.rows]
    # ``zip(*rows)`` yields the columns, headings included.
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    texts = table.text_columns()
    lines = [table.title]
    for row in rows:
        cells = []
        for cell, width, text in zip(row, widths, texts, strict=True):
            cells.append(cell.ljust(width) if text else cell.rjust(width))
        lines.append("  ".join(cells).rstrip())
    if table.note:
        lines.append(table.note)
    return "\n".join(lines)
