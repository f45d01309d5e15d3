"""Stage 2: features and their statistics."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from slimasr.cli.common import ConfigOption, DataOption, DebugOption, SetOption, entry, print_notes, progress
from slimasr.config.load import load_config
from slimasr.data.features import compute_features, feature_notes

JobsOption = Annotated[int, typer.Option("--num-jobs", min=1, max=1024, help="Processes.")]


def run(
    config: ConfigOption,
    data: DataOption = Path("data"),
    num_jobs: JobsOption = min(4, os.cpu_count() or 1),
    overrides: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Compute features and their statistics; run again to go on after an interruption."""
    resolved = load_config(config, overrides or ())
    counts = compute_features(resolved, data, num_jobs, progress)
    for name, count in counts.items():
        typer.echo(f"{name}: {count} cuts")
    print_notes(feature_notes(resolved, data, counts))


def main() -> None:
    """Console script ``slimasr-features``."""
    entry(run)
