"""``slimasr config``: what the keys of a configuration are."""

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
    """Print what the keys of a configuration are: type, default and meaning."""
    from slimasr.config.describe import all_parts, find_parts, without_repetition
    from slimasr.config.page import config_page

    if markdown:
        if name is not None:
            raise UserError("--markdown prints the whole page; leave out the section or key")
        typer.echo(config_page(), nl=False)
        return
    _print_parts(without_repetition(all_parts() if name is None else find_parts(name)))


def _print_parts(parts: Sequence[Part]) -> None:
    """Draw tables on a terminal; elsewhere print full names, one line a key, so that grep finds them."""
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
    for column in table.columns:
        column.overflow = "fold"
    for key in part.keys:
        table.add_row(*(Text(cell) for cell in _cells(key.last_name, key)))
    console.print(table)


def _lines(part: Part) -> list[str]:
    """A heading, and the keys in columns."""
    heading = [part.title, f"  {_plain(_summary(part))}"]
    if not part.keys:
        return heading
    rows = [COLUMNS, *(_cells(key.name, key) for key in part.keys)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [*heading, *("  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)]


def _summary(part: Part) -> str:
    return f"{part.summary} Its keys are those of {part.same_as}." if part.same_as else part.summary


def _cells(name: str, key: Key) -> tuple[str, str, str, str]:
    return name, key.type, "needed" if key.default is None else key.default, _plain(key.sentence)


def _plain(text: str) -> str:
    """Text of the source without its marks of code."""
    return text.replace("``", "")
