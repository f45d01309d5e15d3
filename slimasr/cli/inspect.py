"""``slimasr-inspect``: show how much speech sets have, of whom, with which text, and which utterances look wrong."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from slimasr.cli.common import DebugOption, entry, one_thread, progress, quick_imports, set_name_option

DataArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="DATA",
        show_default=False,
        help="Data folders with the manifests that stage 1 wrote, or what corpus own reads: Kaldi data directories, "
        "lhotse manifests, JSON lines, tables, folders of audio with transcripts.",
    ),
]
OptionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="NAME=VALUE",
        help="How data are read that stage 1 has not prepared: a key of data.options of corpus own, such as format=csv "
        "or text_column=sentence; may be given several times.",
    ),
]
AudioOption = Annotated[
    bool,
    typer.Option(
        "--audio/--no-audio",
        help="Read all audio, to find silent, clipped and repeated recordings. Without it, a set takes seconds.",
    ),
]
JobsOption = Annotated[
    int,
    typer.Option("--num-jobs", metavar="NUMBER", min=1, max=1024, help="Number of threads that read audio."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON instead of tables; its keys are described in docs/inspect.md.")
]
HtmlOption = Annotated[
    Path | None,
    typer.Option(
        "--html", metavar="FILE", help="Also write one self-contained HTML page, with plots of the histograms."
    ),
]


def run(
    data: DataArgument,
    set_names: Annotated[list[str] | None, set_name_option("all sets in DATA")] = None,
    options: OptionsOption = None,
    audio: AudioOption = True,
    num_jobs: JobsOption = min(4, os.cpu_count() or 1),
    as_json: JsonOption = False,
    html: HtmlOption = None,
    debug: DebugOption = False,
) -> None:
    """Show what sets hold and which utterances look wrong.

    Hours, speakers, languages, audio formats, lengths, characters, repeated and suspicious utterances; nothing in DATA
    is changed. Utterances that two sets have in common are named, too.
    """
    with quick_imports():
        from dataclasses import asdict

        from slimasr.data.inspection.reading import inspect_paths, read_options
        from slimasr.files import to_json, write_atomic
        from slimasr.report.tables.data import data_tables
        from slimasr.report.tables.terminal import print_table

    one_thread()
    facts = inspect_paths(data, read_options(options or ()), set_names, num_jobs if audio else 0, progress)
    if as_json:
        typer.echo(to_json(asdict(facts), indent=2))
    else:
        for number, table in enumerate(data_tables(facts, histograms=True)):
            # An empty line between two tables.
            if number:
                typer.echo()
            print_table(table)
    if html is not None:
        # Late, because the plot library takes a second to import.
        from slimasr.report.data_page import data_page

        write_atomic(html, data_page(facts, f"Data: {', '.join(path.resolve().name for path in data)}"))
        typer.echo(f"wrote {html}", err=as_json)


main = partial(entry, run)
