"""Stage 3: the subword model."""

from __future__ import annotations

from pathlib import Path

import typer

from slimasr.cli.common import ConfigOption, DataOption, DebugOption, SetOption, entry
from slimasr.config.load import load_config
from slimasr.data.tokenizer import train_tokenizer


def run(
    config: ConfigOption,
    data: DataOption = Path("data"),
    overrides: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Train the subword model on the training transcripts."""
    tokenizer = train_tokenizer(load_config(config, overrides or ()), data)
    typer.echo(f"{tokenizer.vocab_size} tokens")


def main() -> None:
    """Console script ``slimasr-bpe``."""
    entry(run)
