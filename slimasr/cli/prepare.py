"""``slimasr-prepare`` (stages 0 and 1): find or fetch the corpus and write its manifests."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slimasr.cli.common import (
    ConfigOption,
    DataOption,
    DebugOption,
    SetOption,
    entry,
    print_notes,
    progress,
    quick_imports,
)

if TYPE_CHECKING:
    from slimasr.data.inspection.facts import DataFacts

CorpusDirOption = Annotated[
    Path | None,
    typer.Option(
        "--corpus-dir",
        metavar="DIR",
        help="Folder of the corpus. Default: searched for below $SLIMASR_CORPORA and DATA/corpora.",
    ),
]
DownloadOption = Annotated[bool, typer.Option("--download", help="Download the corpus if it is not found.")]
OnlyCorpusOption = Annotated[
    bool, typer.Option("--only-corpus", help="Stop when the corpus is in place, without writing manifests (stage 0).")
]
CheckAudioOption = Annotated[
    bool,
    typer.Option(
        "--check-audio",
        help="Identify audio files by their content instead of their modification times. This reads every file.",
    ),
]


def run(
    config: ConfigOption,
    data: DataOption = Path("data"),
    corpus_dir: CorpusDirOption = None,
    download: DownloadOption = False,
    only_corpus: OnlyCorpusOption = False,
    check_audio: CheckAudioOption = False,
    overrides: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Find a corpus and write the manifests of its sets.

    Writes to DATA/manifests. A corpus of synthetic speech is generated if it does not exist. slimasr-inspect shows more
    of what the sets hold than this command prints.
    """
    with quick_imports():
        from slimasr.config.load import load_config
        from slimasr.data.files import DataFolder, left_out_notes
        from slimasr.data.manifests.stage import get_corpus, idle_rules, prepare, text_notes
        from slimasr.data.own.find import describe_sources
        from slimasr.data.sets import further_sets

    recipe = load_config(config, overrides or ())
    wanted = recipe.data
    further = further_sets(recipe)
    print_notes(describe_sources(wanted, further))
    if only_corpus:
        typer.echo(f"{wanted.corpus}: {get_corpus(wanted, data, corpus_dir, download, progress, further)}")
        return
    counts = prepare(
        wanted,
        data,
        corpus_dir,
        download,
        progress,
        check_audio=check_audio,
        further=further,
        notes=print_notes,
        inspected=partial(_print_facts, training=wanted.train),
    )
    print_notes([*left_out_notes(counts, DataFolder(data).raw_bad), *text_notes(data, counts)])
    print_notes(idle_rules(wanted.text, data, counts))


main = partial(entry, run)


def _print_facts(facts: DataFacts, training: Sequence[str]) -> None:
    from slimasr.data.inspection.notes import character_lines, inspection_notes
    from slimasr.report.tables.data import sets_table
    from slimasr.report.tables.terminal import print_table

    print_table(sets_table(facts.sets))
    for line in character_lines(facts, training):
        typer.echo(line)
    print_notes(inspection_notes(facts, training))
