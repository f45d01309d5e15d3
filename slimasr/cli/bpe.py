"""``slimasr-bpe`` (stage 3): train the tokenizer."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import typer

from slimasr.cli.common import ConfigOption, DataOption, DebugOption, SetOption, entry, print_notes, quick_imports


def run(
    config: ConfigOption,
    data: DataOption = Path("data"),
    overrides: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Train the tokenizer on the training transcripts.

    Writes a SentencePiece model to DATA/lang_<kind>_<size>.
    """
    with quick_imports():
        from slimasr.config.load import load_config
        from slimasr.data.manifests.stage import set_names
        from slimasr.data.tokens.coverage import coverage_notes
        from slimasr.data.tokens.stage import size_note, train_tokenizer

    recipe = load_config(config, overrides or ())
    tokenizer = train_tokenizer(recipe, data)
    typer.echo(f"{tokenizer.vocab_size} tokens")
    note = size_note(recipe.tokenizer, tokenizer)
    print_notes([] if note is None else [note])
    print_notes(coverage_notes(data, set_names(recipe.data), tokenizer))


main = partial(entry, run)
