"""``slimasr-features`` (stage 2): compute features and their statistics."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from slimasr.cli.common import (
    ConfigOption,
    DataOption,
    DebugOption,
    SetOption,
    entry,
    one_thread,
    print_notes,
    progress,
    quick_imports,
)

JobsOption = Annotated[
    int,
    typer.Option("--num-jobs", metavar="NUMBER", min=1, max=1024, help="Number of processes that run in parallel."),
]


def run(
    config: ConfigOption,
    data: DataOption = Path("data"),
    num_jobs: JobsOption = min(4, os.cpu_count() or 1),
    overrides: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Compute the features of all sets and their statistics.

    Writes to DATA/features. Run the same command again to resume after an interruption.
    """
    with quick_imports():
        from slimasr.config.load import load_config
        from slimasr.data.features.stage import compute_features, feature_notes

    recipe = load_config(config, overrides or ())
    # Each of the processes has one thread, also if this is the only one.
    one_thread()
    counts = compute_features(recipe, data, num_jobs, progress)
    for name, count in counts.items():
        typer.echo(f"{name}: {count} cuts")
    print_notes(feature_notes(recipe, data, counts))


main = partial(entry, run)
