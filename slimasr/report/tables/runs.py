"""The tables of training runs: what each of them cost, and what its time was spent on."""

from __future__ import annotations

from collections.abc import Sequence

from slimasr.report.records import Run, Study
from slimasr.report.tables.table import ABSENT, Table


def run_table(study: Study) -> Table:
    """Make the table of training runs: what each of them cost and where it ran."""
    rows = [_run_row(run) for run in study.runs]
    columns = ("experiment", "role", "seed", "epochs", "steps", "minutes", "revision", "hardware")
    return Table("Training runs", columns, tuple(rows), place="bottom")


def _run_row(run: Run) -> tuple[str, ...]:
    # All separate models of a family have one role; what tells them apart is the subnet they stand for.
    role = run.role if run.separate_of is None else f"{run.role} ({run.separate_of})"
    minutes = ABSENT if run.train_minutes is None else f"{run.train_minutes:.1f}"
    return (
        run.name,
        role,
        str(run.seed),
        str(run.epochs),
        f"{run.steps:,}",
        minutes,
        run.revision[:12] or ABSENT,
        run.hardware or ABSENT,
    )


def time_table(study: Study) -> Table:
    """Make the table of what the training time was spent on, for the runs that have kept it."""
    runs = [run for run in study.runs if run.train_seconds]
    # Each part once, in the order of the runs.
    parts = list(dict.fromkeys(part for run in runs for part in run.train_seconds))
    rows = [_time_row(run, parts) for run in runs]
    note = "Percent of the wall time of training, over all resumes."
    return Table("Training time", ("experiment", "threads", "seconds", *parts), tuple(rows), note, place="bottom")


def _time_row(run: Run, parts: Sequence[str]) -> tuple[str, ...]:
    total = sum(run.train_seconds.values())
    cells = []
    for part in parts:
        seconds = run.train_seconds.get(part)
        cells.append(ABSENT if seconds is None or not total else f"{100 * seconds / total:.1f} %")
    threads = ABSENT if run.train_threads is None else str(run.train_threads)
    return (run.name, threads, f"{total:,.1f}", *cells)
