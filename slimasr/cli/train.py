"""Stage 4: train a recipe's supernet (or one of its baselines)."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from slimasr.cli.common import ConfigOption, DataOption, DebugOption, ExpOption, SetOption, entry, progress
from slimasr.config.load import load_config

AcceptOption = Annotated[
    bool,
    typer.Option("--accept-changed-data", help="Resume although the data differ from those that the run began with."),
]


def run(
    config: ConfigOption,
    exp: ExpOption,
    data: DataOption = Path("data"),
    accept_changed_data: AcceptOption = False,
    overrides: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Train; run again to go on where a run was interrupted."""
    from slimasr.training.trainer import train  # imports torch and lhotse: not needed to print the help

    arguments = sys.argv[1:]
    if Path(sys.argv[0]).name == "slimasr":
        arguments = arguments[1:]  # as ``slimasr train``
    command = shlex.join(["slimasr-train", *arguments])
    train(
        load_config(config, overrides or ()),
        data,
        exp,
        command=command,
        progress=progress,
        accept_changed_data=accept_changed_data,
    )


def main() -> None:
    """Console entry point."""
    entry(run)
