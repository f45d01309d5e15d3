"""Stage 3: the subword model."""

from __future__ import annotations

from pathlib import Path

import typer

from slimasr.cli.common import ConfigOption, DataOption, DebugOption, SetOption, entry, print_notes
from slimasr.config.load import load_config
from slimasr.data.coverage import coverage_notes
from slimasr.data.manifests import set_names
from slimasr.data.tokenizer import train_tokenizer


def run(
    config: ConfigOption,
    data: DataOption = Path("data"),
    overrides: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Train the subword model on the training transcripts."""
    recipe = load_config(config, overrides or ())
    tokenizer = train_tokenizer(recipe, data)
    typer.echo(f"{tokenizer.vocab_size} tokens")
    print_notes(coverage_notes(data, set_names(recipe.data), tokenizer))


def main() -> None:
    """Console script ``slimasr-bpe``."""
    entry(run)
