"""What all commands share: option types, one-line errors, progress."""

from __future__ import annotations

import functools
import io
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from slimasr.errors import one_line

if TYPE_CHECKING:
    from slimasr.experiment import Experiment  # imports torch: not needed to print the help

P = ParamSpec("P")
T = TypeVar("T")

ConfigOption = Annotated[Path, typer.Option("--config", help="The experiment's YAML.", show_default=False)]
DataOption = Annotated[Path, typer.Option("--data", help="Folder of manifests, features and BPE models.")]
ExpArgument = Annotated[Path, typer.Argument(help="Experiment folder, exp/<name>.", show_default=False)]
ExpOption = Annotated[Path, typer.Option("--exp", help="Experiment folder, exp/<name>.", show_default=False)]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one key, e.g. encoder.num_layers=6; repeatable.", metavar="KEY=VALUE"),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

SHOW_AFTER_SECONDS = 2.0
LINE_EVERY_SECONDS = 10.0


def above_zero(value: float | list[float] | None) -> float | list[float] | None:
    """Callback of an option that takes finite numbers above 0; Typer's own ``min`` lets NaN and infinity pass.

    Raises:
        typer.BadParameter: it has another one; Typer names the option.
    """
    for number in value if isinstance(value, list) else [value]:
        if number is not None and not 0.0 < number < math.inf:
            raise typer.BadParameter(f"must be a finite number above 0, got {number:g}")
    return value


def entry(run: Callable[..., None]) -> NoReturn:
    """Run one command as a program: parse ``sys.argv``, print errors as one line, exit."""
    command_app(run)()
    sys.exit(0)


def command_app(run: Callable[..., None]) -> typer.Typer:
    """A Typer app whose only command is ``run`` (what `entry` runs and tests invoke)."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(guard(run))
    return app


def guard(run: Callable[P, None]) -> Callable[P, None]:
    """Wrap a command so that errors end it with one line on stderr and an exit status.

    `UserError`, invalid configuration and everything unforeseen exit with 1, an interrupt with 130. A command
    called with ``debug=True`` prints the traceback first.
    """

    @functools.wraps(run)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        _print_any_file_name()
        try:
            run(*args, **kwargs)
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from None
        except Exception as error:
            if _is_control_flow(error):
                raise
            if kwargs.get("debug"):
                traceback.print_exc()
            typer.echo(f"error: {one_line(error)}", err=True)
            raise typer.Exit(1) from None

    return guarded


def opened(experiment: Experiment) -> Experiment:
    """The experiment itself; what could not be verified about it is printed to stderr."""
    print_notes(experiment.notes)
    return experiment


def print_notes(notes: Iterable[str]) -> None:
    """Print what the user should know, one line each, to stderr."""
    for note in notes:
        typer.echo(f"note: {note}", err=True)


@contextmanager
def any_file_name() -> Iterator[None]:
    """Let stdout print file names as they are on disk, also those that are not valid UTF-8."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    before = stream.errors
    stream.reconfigure(errors="surrogateescape")
    try:
        yield
    finally:
        stream.reconfigure(errors=before)


def file_name(path: Path) -> str:
    """A path on one line: line breaks are shown as ``\\n`` and ``\\r``."""
    return str(path).replace("\n", "\\n").replace("\r", "\\r")


def progress(items: Iterable[T], total: int | None = None, label: str = "") -> Iterator[T]:
    """Pass ``items`` on and show how far they are, on stderr, from the third second on.

    A bar on a terminal; elsewhere one plain line every ten seconds. ``total`` defaults to ``len(items)``.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    console = Console(stderr=True)
    return _bar(items, total, label, console) if console.is_terminal else _lines(items, total, label)


def _bar(items: Iterable[T], total: int | None, label: str, console: Console) -> Iterator[T]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=console)
    task = bar.add_task(label, total=total)
    start, shown = time.monotonic(), False
    try:
        for item in items:
            yield item
            bar.advance(task)
            if not shown and time.monotonic() - start > SHOW_AFTER_SECONDS:
                bar.start()
                shown = True
    finally:
        if shown:
            bar.stop()


def _lines(items: Iterable[T], total: int | None, label: str) -> Iterator[T]:
    start = time.monotonic()
    due, done = start + SHOW_AFTER_SECONDS, 0
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now >= due:
            due = now + LINE_EVERY_SECONDS
            typer.echo(_line(label, done, total, now - start), err=True)
    if time.monotonic() - start > SHOW_AFTER_SECONDS:
        typer.echo(_line(label, done, done, time.monotonic() - start), err=True)


def _line(label: str, done: int, total: int | None, seconds: float) -> str:
    if total is None:
        return f"{label}: {done} in {seconds:.0f} s"
    left = "" if done >= total else f", about {seconds / done * (total - done):.0f} s left"
    return f"{label}: {done}/{total} in {seconds:.0f} s{left}"


def _print_any_file_name() -> None:
    """Let output streams pass on bytes of file names that are not UTF-8, as they are."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")


def _is_control_flow(error: Exception) -> bool:
    """Whether Typer means this exception for itself: an exit, an abort, or a usage error (status 2)."""
    return isinstance(error, (typer.Exit, typer.Abort)) or hasattr(error, "exit_code")
