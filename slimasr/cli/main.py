"""``slimasr <stage>``: all stage commands under one name, with ``slimasr config`` and ``slimasr doctor``."""

from __future__ import annotations

from importlib import import_module

import typer

from slimasr.cli import config
from slimasr.cli.common import add_command
from slimasr.cli.doctor import doctor

STAGES = (
    "prepare",
    "inspect",
    "features",
    "bpe",
    "graph",
    "train",
    "search",
    "decode",
    "score",
    "report",
    "align",
    "extract",
    "export",
    "check",
    "profile",
    "transcribe",
)


def main_app() -> typer.Typer:
    """Return the ``slimasr`` command with all its stages."""
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        help="Train one speech recogniser, ship many sizes of it.",
    )
    # The modules are cheap: they import the library inside ``run``.
    for stage in STAGES:
        module = import_module(f"slimasr.cli.{stage}")
        add_command(app, module.run, stage)
    add_command(app, config.run, "config")
    add_command(app, doctor, "doctor")
    return app


def main() -> None:
    """Run the console script ``slimasr``."""
    main_app()()
