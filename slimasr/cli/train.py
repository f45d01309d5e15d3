"""``slimasr-train`` (stage 4): train a recipe's supernet or one of its baselines."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from slimasr.cli.common import ConfigOption, DataOption, DebugOption, SetOption, entry, progress, quick_imports

ExpOption = Annotated[
    Path,
    typer.Option("--exp", metavar="DIR", show_default=False, help="Experiment folder to write, such as exp/slimmable."),
]
AcceptOption = Annotated[
    bool,
    typer.Option("--accept-changed-data", help="Resume although the data have changed since the run began."),
]


def run(
    config: ConfigOption,
    exp: ExpOption,
    data: DataOption = Path("data"),
    accept_changed_data: AcceptOption = False,
    overrides: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Train a supernet or a separate model.

    Run the same command again to resume an interrupted run.
    """
    with quick_imports():
        from slimasr.config.load import load_config
        from slimasr.training.trainer import train

    arguments = sys.argv[1:]
    if Path(sys.argv[0]).name == "slimasr":
        arguments = arguments[1:]  # without "train" of "slimasr train"
    # results.json keeps the command in one form, whichever way it was started.
    command = shlex.join(["slimasr-train", *arguments])
    train(
        load_config(config, overrides or ()),
        data,
        exp,
        command=command,
        progress=progress,
        accept_changed_data=accept_changed_data,
    )


main = partial(entry, run)
