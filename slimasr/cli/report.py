"""Stage 8: the HTML report with its pictures, and a recipe's results.json and RESULTS.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from slimasr.cli.common import DebugOption
from slimasr.cli.common import entry as run_command
from slimasr.errors import UserError
from slimasr.files import read_json, write_atomic, write_json_atomic
from slimasr.report.collect import collect
from slimasr.report.records import read_study
from slimasr.report.results_md import render_results
from slimasr.report.tables import subnet_table
from slimasr.report.terminal import print_table
from slimasr.report.write import write_report


def run(
    exps: Annotated[
        list[Path],
        typer.Argument(metavar="EXP", help="Experiment folders; files of --json add theirs.", show_default=False),
    ],
    out: Annotated[Path | None, typer.Option(help="HTML file to write; pictures go beside it.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the merged results.json.")] = None,
    results_md: Annotated[Path | None, typer.Option(help="Write RESULTS.md from --json.")] = None,
    title: Annotated[str | None, typer.Option(help="Name of the recipe; default: the folder's.")] = None,
    debug: DebugOption = False,
) -> None:
    """Report on one or several experiments: supernets and separate models are joined by size."""
    if out is None and json_path is None:
        raise UserError("nothing to write: name --out report.html, or --json results.json")
    if results_md is not None and json_path is None:
        raise UserError("--results-md: needs --json, as RESULTS.md is made from that file alone")
    root = (json_path or out or Path()).resolve().parent
    data = collect(exps, title or root.name, root)
    if json_path is not None:
        write_json_atomic(json_path, data)
        typer.echo(f"wrote {json_path}")
    if results_md is not None and json_path is not None:
        merged: dict[str, Any] = read_json(json_path, "write it again")
        write_atomic(results_md, render_results(merged, json_path.name))
        typer.echo(f"wrote {results_md}")
    if out is not None:
        print_table(subnet_table(read_study(data)))
        page, *pictures = write_report(data, out)
        for path in (*pictures, page):
            typer.echo(f"wrote {path}")


def main() -> None:
    """Console script ``slimasr-report``."""
    run_command(run)
