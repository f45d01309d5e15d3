"""Options, one-line errors and progress, which all commands share.

A command is a module with a function ``run``, whose parameters are its options and whose docstring is its help, and
``main = partial(entry, run)`` for the console script. A command imports the library inside its functions and not at
the top, so that printing the help does not load torch.
"""

from __future__ import annotations

import functools
import gc
import io
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer
from typer.core import TyperCommand

from slimasr.errors import one_line

if TYPE_CHECKING:
    from rich.console import Console

    from slimasr.experiment import Experiment

P = ParamSpec("P")
T = TypeVar("T")

SHOW_AFTER_SECONDS = 2.0
LINE_EVERY_SECONDS = 10.0
SUBNET_NAMES = "a width such as 0.5, a depth such as l10 of a tree, a name or budget such as '4 blocks', id, max, min"


def above_zero(value: float | list[float] | None) -> float | list[float] | None:
    """Check the value of an option that takes finite numbers above 0; Typer's own ``min`` lets NaN and infinity pass.

    Raises:
        typer.BadParameter: a number is not finite or not above 0; Typer names the option.
    """
    for number in value if isinstance(value, list) else [value]:
        if number is not None and not 0.0 < number < math.inf:
            raise typer.BadParameter(f"must be a finite number above 0, got {number:g}")
    return value


def limit_option(name: str, metavar: str, text: str) -> Any:
    """Return the option of an upper limit, which must be a finite number above 0."""
    return typer.Option(name, metavar=metavar, callback=above_zero, help=f"{text} Default: no limit.")


def set_name_option(default: str) -> Any:
    """Return the option ``--set-name``; ``default`` says which sets are used without it."""
    text = f"Name of a set, such as test; may be given several times. Default: {default}."
    return typer.Option("--set-name", metavar="NAME", help=text)


def subnet_option(default: str) -> Any:
    """Return ``--subnet`` for commands that take one subnet; ``default`` says which one is used without it."""
    text = f"Subnet: {SUBNET_NAMES} or a description in JSON. Default: {default}."
    return typer.Option("--subnet", metavar="SUBNET", show_default=False, help=text)


def subnets_option(default: str) -> Any:
    """Return ``--subnet`` for commands that take several subnets; ``default`` says which ones are used without it."""
    text = f"Subnet: {SUBNET_NAMES}, a description in JSON, front (the Pareto front of the search) or all;"
    text += f" may be given several times. Default: {default}."
    return typer.Option("--subnet", metavar="SUBNET", help=text)


ConfigOption = Annotated[
    Path,
    typer.Option("--config", metavar="FILE", show_default=False, help="YAML file that configures the experiment."),
]
DataOption = Annotated[
    Path,
    typer.Option(
        "--data", metavar="DIR", help="Folder of manifests, features and tokenizers, which stages 1 to 3 write."
    ),
]
ExpArgument = Annotated[
    Path, typer.Argument(metavar="EXP", show_default=False, help="Experiment folder, such as exp/slimmable.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one key of the configuration, such as encoder.num_layers=6; may be given several times.",
    ),
]
CheckpointOption = Annotated[
    str,
    typer.Option(
        "--checkpoint",
        metavar="NAME",
        help="Checkpoint to load: final, best, or the name of a file in EXP/checkpoints, such as epoch-010.",
    ),
]
LanguageOption = Annotated[
    str | None,
    typer.Option(
        "--language",
        metavar="LANGUAGE",
        show_default=False,
        help="Language of the speech, such as fr, if the experiment has a pathway for each language; use it instead of "
        "--subnet.",
    ),
]
MaxParams = Annotated[
    float | None, limit_option("--max-params", "NUMBER", "Largest number of parameters, such as 2e6.")
]
MaxInt8 = Annotated[
    float | None, limit_option("--max-int8-mb", "MB", "Largest size with int8 weights, in megabytes of 1e6 bytes.")
]
MaxMacs = Annotated[
    float | None, limit_option("--max-macs", "NUMBER", "Largest number of MACs per second of audio, such as 2e7.")
]
MaxRtf = Annotated[
    float | None,
    limit_option(
        "--max-rtf", "FACTOR", "Largest real-time factor, such as 0.01; it is measured for the Pareto front only."
    ),
]
MaxLatency = Annotated[
    float | None,
    limit_option(
        "--max-latency-ms",
        "MS",
        "Longest time of the encoder for an utterance in milliseconds, such as 40, on the device whose profile "
        "slimasr-search --latency was given.",
    ),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")]


class _Command(TyperCommand):
    """A command whose help shows arguments by their metavar alone, without the braces and type names of Typer."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line."""
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; an option whose metavar is in brackets may stand without a value, which is empty."""
        optional = {
            name
            for param in self.params
            if (param.metavar or "").startswith("[") and param.param_type_name == "option"
            for name in param.opts
        }
        completed: list[str] = []
        for place, arg in enumerate(args):
            completed.append(arg)
            # Another option or nothing follows.
            if arg in optional and (args[place + 1 : place + 2] or ["-"])[0].startswith("-"):
                completed.append("")
        parsed: list[str] = super().parse_args(ctx, completed)
        return parsed

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the sections of arguments and options."""
        # Typer would list an argument by its Python name; users know it by its metavar, such as EXP.
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            # Hidden parameters have no record.
            if record is None:
                continue
            if param.param_type_name == "argument":
                sections["Arguments"].append((param.metavar or record[0], record[1]))
            else:
                sections["Options"].append(record)
        for name, records in sections.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


def entry(run: Callable[..., None]) -> NoReturn:
    """Run one command as a program: parse ``sys.argv``, print errors as one line and exit."""
    command_app(run)()
    sys.exit(0)  # Typer has exited already; this line tells type checkers so.


def command_app(run: Callable[..., None]) -> typer.Typer:
    """Return a Typer app whose only command is ``run``: `entry` runs it, tests invoke it."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    add_command(app, run)
    return app


def add_command(app: typer.Typer, run: Callable[..., None], name: str | None = None) -> None:
    """Add a command to an app; its help is the docstring of ``run``."""
    app.command(name, cls=_Command)(guard(run))


def guard(run: Callable[P, None]) -> Callable[P, None]:
    """Wrap a command so that an error ends it with one line on stderr and an exit status.

    The status is 130 after an interrupt, and 1 after `UserError`, an invalid configuration or an unexpected
    exception. A command that is called with ``debug=True`` prints the traceback first.
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


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import the libraries of a command inside the block without garbage collection, which slows imports by a fifth.

    The collector would scan the many objects of torch repeatedly, although they exist until the process ends. After the
    block, it therefore ignores them permanently (``gc.freeze``).
    """
    # If torch is loaded already, as in tests, little is left to import, and objects of the caller must not be exempted
    # from the collection.
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def opened(experiment: Experiment) -> Experiment:
    """Return the experiment; print to stderr what could not be verified about it."""
    print_notes(experiment.notes)
    return experiment


def one_thread() -> None:
    """Compute with one thread in this process, unless the user's ``OMP_NUM_THREADS`` says otherwise.

    The commands of later stages work on many small pieces, for which further threads are of little use. They wait for
    each other in a busy loop, and slow the command down when another program needs the processor.
    """
    if not os.environ.get("OMP_NUM_THREADS"):
        import torch

        torch.set_num_threads(1)


def print_notes(notes: Iterable[str]) -> None:
    """Print notes for the user to stderr, one line each."""
    for note in notes:
        typer.echo(f"note: {note}", err=True)


@contextmanager
def any_file_name() -> Iterator[None]:
    """Let stdout print file names as they are on disk, also those that are not valid UTF-8."""
    # A stdout that something has replaced, such as a notebook, cannot be reconfigured.
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
    """Write a path on one line: line breaks are shown as ``\\n`` and ``\\r``."""
    return str(path).replace("\n", "\\n").replace("\r", "\\r")


def progress(items: Iterable[T], total: int | None = None, label: str = "") -> Iterator[T]:
    """Yield ``items``, and show the progress on stderr if they take more than two seconds.

    A terminal shows a bar; elsewhere one plain line is printed every ten seconds. ``total`` defaults to
    ``len(items)``.
    """
    from rich.console import Console

    if total is None and isinstance(items, Sized):
        total = len(items)
    console = Console(stderr=True)
    if console.is_terminal:
        return _bar(items, total, label, console)
    return _lines(items, total, label)


def _bar(items: Iterable[T], total: int | None, label: str, console: Console) -> Iterator[T]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    task = bar.add_task(label, total=total)
    start = time.monotonic()
    shown = False
    try:
        for item in items:
            yield item
            # Control is back: the caller is done with this item.
            bar.advance(task)
            # The bar appears late, so that a quick command prints none.
            if not shown and time.monotonic() - start > SHOW_AFTER_SECONDS:
                bar.start()
                shown = True
    finally:
        if shown:
            bar.stop()


def _lines(items: Iterable[T], total: int | None, label: str) -> Iterator[T]:
    start = time.monotonic()
    due = start + SHOW_AFTER_SECONDS
    done = 0
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now >= due:
            due = now + LINE_EVERY_SECONDS
            typer.echo(_line(label, done, total, now - start), err=True)
    # ``total`` may be None or wrong; what was counted is the total now.
    seconds = time.monotonic() - start
    if seconds > SHOW_AFTER_SECONDS:
        typer.echo(_line(label, done, done, seconds), err=True)


def _line(label: str, done: int, total: int | None, seconds: float) -> str:
    if total is None:
        return f"{label}: {done} in {seconds:.0f} s"
    text = f"{label}: {done}/{total} in {seconds:.0f} s"
    if done >= total:
        return text
    left = seconds / done * (total - done)
    return f"{text}, about {left:.0f} s left"


def _print_any_file_name() -> None:
    """Let both output streams write bytes of file names that are not valid UTF-8 unchanged."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")


def _is_control_flow(error: Exception) -> bool:
    """Whether Typer handles this exception itself: an exit, an abort, or a usage error (status 2)."""
    # Usage errors are click's, which Typer may bundle; all of them have an exit code.
    return isinstance(error, (typer.Exit, typer.Abort)) or hasattr(error, "exit_code")
