"""``slimasr config``: print the keys of a configuration with type, default and meaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from slimasr.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from slimasr.config.describe import Key, Part

COLUMNS = ("key", "type", "default", "meaning")

NameArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="SECTION|KEY",
        show_default=False,
        help="Section or key, such as training, training.num_epochs, method.todm or data.options.an4. Default: all.",
    ),
]
MarkdownOption = Annotated[bool, typer.Option("--markdown", help="Print the page docs/config.md.")]


def run(name: NameArgument = None, markdown: MarkdownOption = False) -> None:
    """Print the keys of a configuration with their types, defaults and meanings."""
    from slimasr.config.describe import all_parts, find_parts, without_repetition
    from slimasr.config.page import config_page

    if markdown:
        if name is not None:
            raise UserError("--markdown prints the whole page; leave out the section or key")
        typer.echo(config_page(), nl=False)
        return
    _print_parts(without_repetition(all_parts() if name is None else find_parts(name)))


def _print_parts(parts: Sequence[Part]) -> None:
    """Draw tables on a terminal; elsewhere print full names, one line per key, so that grep finds them."""
    from rich.console import Console

    console = Console()
    for part in parts:
        if console.is_terminal:
            _draw(part, console)
        else:
            typer.echo("\n".join([*_lines(part), ""]))


def _draw(part: Part, console: Console) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console.print(Text(part.title, style="bold"))
    console.print(Text(_plain(_summary(part))))
    table = Table(*COLUMNS, box=box.SIMPLE_HEAD, show_header=bool(part.keys))
    # Long names and sentences continue on the next line; rich would cut them off.
    for column in table.columns:
        column.overflow = "fold"
    for key in part.keys:
        # ``Text`` keeps rich from reading brackets as markup.
        table.add_row(*(Text(cell) for cell in _cells(key.last_name, key)))
    console.print(table)


def _lines(part: Part) -> list[str]:
    """Return a heading, and the keys in columns."""
    lines = [part.title, f"  {_plain(_summary(part))}"]
    if not part.keys:
        return lines
    rows = [COLUMNS, *(_cells(key.name, key) for key in part.keys)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        columns = "  ".join(map(str.ljust, row, widths))
        lines.append(f"  {columns}".rstrip())
    return lines


def _summary(part: Part) -> str:
    if not part.same_as:
        return part.summary
    return f"{part.summary} Its keys are those of {part.same_as}."


def _cells(name: str, key: Key) -> tuple[str, str, str, str]:
    default = "needed" if key.default is None else key.default
    return name, key.type, default, _plain(key.sentence)


def _plain(text: str) -> str:
    """Return text of the source without its marks of code."""
    return text.replace("``", "")
