"""``slimasr-report`` (stage 8): write the HTML report with its pictures, and a recipe's results.json and RESULTS.md."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from slimasr.cli.common import DebugOption, entry, quick_imports
from slimasr.errors import UserError

ExpsArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="EXP",
        show_default=False,
        help="Experiment folders, or results.json files written earlier with --json.",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="HTML page to write; pictures are written to the same folder."),
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="File to write the results of all experiments to.")
]
ResultsMdOption = Annotated[
    Path | None,
    typer.Option("--results-md", metavar="FILE", help="Markdown file to write the tables of the --json file to."),
]
TitleOption = Annotated[
    str | None,
    typer.Option(
        "--title", metavar="TEXT", help="Title of the report. Default: name of the folder that is written to."
    ),
]
ClaimsOption = Annotated[
    bool, typer.Option("--claims", help="Also report whether the results support the claims of the papers.")
]


def run(
    exps: ExpsArgument,
    out: OutOption = None,
    json_path: JsonOption = None,
    results_md: ResultsMdOption = None,
    title: TitleOption = None,
    with_claims: ClaimsOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the report of one or more experiments.

    Supernets and separate models of the same size are shown side by side. Name at least one file to write.
    """
    with quick_imports():
        from slimasr.claims import PAPERS, claims_of
        from slimasr.files import write_atomic
        from slimasr.report.collect import collect
        from slimasr.report.findings import NO_CLAIMS
        from slimasr.report.results_md import render_results
        from slimasr.report.tables.common import subnet_table
        from slimasr.report.tables.terminal import print_table
        from slimasr.report.write import write_report

    if out is None and json_path is None:
        raise UserError("nothing to write: name --out report.html, or --json results.json")
    if results_md is not None and json_path is None:
        raise UserError("--results-md: needs --json, as RESULTS.md is made from that file alone")
    # The report writes the paths of experiments relative to this folder.
    root = (json_path or out or Path()).resolve().parent
    report, study = collect(exps, title or root.name, root, PAPERS)
    claims = claims_of(study) if with_claims else NO_CLAIMS
    if json_path is not None:
        report.save(json_path)
        typer.echo(f"wrote {json_path}")
    if results_md is not None and json_path is not None:
        write_atomic(results_md, render_results(study, json_path.name, claims))
        typer.echo(f"wrote {results_md}")
    if out is not None:
        print_table(subnet_table(study))
        page, *pictures = write_report(study, out, claims)
        for path in (*pictures, page):
            typer.echo(f"wrote {path}")


main = partial(entry, run)
