"""Write the report's files."""

from __future__ import annotations

from pathlib import Path

from slimasr.files import write_atomic
from slimasr.report.findings import NO_CLAIMS, Claims
from slimasr.report.page import render_page
from slimasr.report.pictures.describe import result_pictures, training_pictures
from slimasr.report.pictures.draw_png import write_png
from slimasr.report.pictures.drawings import architecture_drawings
from slimasr.report.pictures.masks import mask_pictures
from slimasr.report.pictures.picture import Drawing, HeatMaps, Picture
from slimasr.report.pictures.remaining import remaining_maps
from slimasr.report.pictures.states import state_pictures
from slimasr.report.records import Run, Study
from slimasr.report.results_md import all_tables
from slimasr.report.tables.common import set_names


def write_report(study: Study, out: Path, claims: Claims = NO_CLAIMS) -> list[Path]:
    """Write the page and, in the same folder, its pictures.

    Args:
        study: what is reported.
        out: the HTML file.
        claims: what is shown about claims; verdicts are left out unless at least one claim could be tested.

    Returns:
        The paths of all files that were written, the page first.
    """
    set_name = shown_set(study)
    shown = [table for table in all_tables(study, claims) if table.rows]
    plots = [*claims.pictures, *result_pictures(study, set_name)]
    drawings: list[Drawing | HeatMaps] = [*architecture_drawings(study, set_name), *remaining_maps(study, set_name)]
    curves = [*mask_pictures(study), *training_pictures(study), *state_pictures(study)]
    findings = claims.findings if claims.are_tested else ()
    page = render_page(f"Report: {study.recipe}", _lead(study), shown, plots, drawings, curves, findings)
    write_atomic(out, page)
    paths = [out]
    drawn: list[Picture | Drawing | HeatMaps] = [*plots, *drawings, *curves]
    for picture in drawn:
        paths.append(write_png(picture, out.with_name(f"{out.stem}-{picture.name}.png")))
    return paths


def shown_set(study: Study) -> str:
    """The set that plots show: the last one scored for every run, dev if there is no other."""
    # Names are in order with dev first, so that the last one is a test set if there is any.
    names = set_names(study)
    common = [name for name in names if all(_is_scored(run, name) for run in study.runs)]
    return (common or names or ["dev"])[-1]


def _is_scored(run: Run, set_name: str) -> bool:
    return any(set_name in record.wer for record in run.subnets)


def _lead(study: Study) -> str:
    joint = [run for run in study.runs if not run.is_separate]
    separate = len(study.runs) - len(joint)
    subnets = sum(len(run.subnets) for run in joint)
    plural = "" if len(joint) == 1 else "s"
    text = f"{len(joint)} supernet run{plural} with {subnets} measured subnets"
    return text + (f" and {separate} separately trained models." if separate else ".")
