"""Stages 0 and 1: find or fetch the corpus, write its manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimasr.cli.common import ConfigOption, DataOption, DebugOption, SetOption, entry, print_notes, progress
from slimasr.config.load import load_config
from slimasr.data.files import DataFolder, left_out_notes
from slimasr.data.manifests import get_corpus, prepare

CorpusDirOption = Annotated[Path | None, typer.Option("--corpus-dir", help="Where the corpus lies.")]
DownloadOption = Annotated[bool, typer.Option("--download", help="Download the corpus if it is nowhere.")]

OnlyCorpusOption = Annotated[bool, typer.Option("--only-corpus", help="Stop when the corpus is there (stage 0).")]
CheckAudioOption = Annotated[
    bool,
    typer.Option(
        "--check-audio", help="Identify audio files by their content, not by their modification times (reads them all)."
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
    """Read a corpus into manifests.

    Looks in --corpus-dir, then in $SLIMASR_CORPORA, then in what was downloaded before.
    """
    wanted = load_config(config, overrides or ()).data
    if only_corpus:
        typer.echo(f"{wanted.corpus}: {get_corpus(wanted, data, corpus_dir, download, progress)}")
        return
    counts = prepare(wanted, data, corpus_dir, download, progress, check_audio=check_audio)
    for name, count in counts.items():
        typer.echo(f"{name}: {count} utterances")
    print_notes(left_out_notes(counts, DataFolder(data).raw_bad))


def main() -> None:
    """Console script ``slimasr-prepare``."""
    entry(run)
