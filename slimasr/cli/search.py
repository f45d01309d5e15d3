"""``slimasr-search`` (stage 5): measure subnets on the dev set, find the Pareto front, choose within limits."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slimasr.cli.common import (
    DataOption,
    DebugOption,
    ExpArgument,
    MaxInt8,
    MaxMacs,
    MaxParams,
    MaxRtf,
    entry,
    opened,
    print_notes,
    progress,
)
from slimasr.errors import UserError

if TYPE_CHECKING:
    from slimasr.experiment import Experiment
    from slimasr.measure.quality import Batches
    from slimasr.results.search import Summary

SliceOption = Annotated[
    str | None,
    typer.Option(
        "--slice",
        metavar="WIDTHS",
        help="Instead of searching, measure untrained slices of a separate model at these widths, such as 0.75,0.5.",
    ),
]
SearchSetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one key of the sections search and decoding, such as search.int8=true; "
        "may be given several times.",
    ),
]
WorkersOption = Annotated[
    int,
    typer.Option(
        "--workers",
        metavar="NUMBER",
        min=1,
        max=1024,
        help="Number of single-threaded worker processes; 1 evaluates in this process with all threads.",
    ),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL",
        help="Database that workers on several machines share, such as postgresql://user@host/name. "
        "Default: a file in EXP/search.",
    ),
]


def run(
    exp: ExpArgument,
    data: DataOption = Path("data"),
    workers: WorkersOption = 1,
    storage: StorageOption = None,
    overrides: SearchSetOption = None,
    max_params: MaxParams = None,
    max_int8_mb: MaxInt8 = None,
    max_macs: MaxMacs = None,
    max_rtf: MaxRtf = None,
    slices: SliceOption = None,
    debug: DebugOption = False,
) -> None:
    """Measure subnets and write the Pareto front of WER and cost.

    Subnets are measured on the dev set. The front is written to EXP/search and printed, and the best subnet within the
    limits is named. Run the same command again to resume an interrupted search.
    """
    from slimasr.energy import measure_energy
    from slimasr.experiment.archive import read_candidates
    from slimasr.report.tables import measurement_table
    from slimasr.report.terminal import print_table
    from slimasr.search.energy import metered
    from slimasr.search.finalists import choose_finalists, measure_finalists, write_front, write_summary
    from slimasr.search.workers import Job, run_workers
    from slimasr.supernet.front import Limits, best_under

    job = Job(exp, data, tuple(overrides or ()), storage, debug)
    if slices is not None:
        widths = _widths(slices)
        _slices(opened(job.experiment()), data, widths)
        return
    start, search = time.monotonic(), job.open()
    config = opened(search.experiment).config
    print_notes(job.notes(search))
    total = search.generator().total() - len(search.study.history())
    found = run_workers(job, search, workers) if workers > 1 else search.work()
    with measure_energy(search.experiment.config.search.energy, gpus=_gpus(search.experiment)) as meter:
        done = sum(1 for _ in metered(progress(found, max(0, total), "search"), exp, meter))
        history = search.write_candidates()
        chosen = choose_finalists(search, history)
        write_front(search, history, ())
        measured = progress(measure_finalists(search, chosen), len(chosen), "front")
        finalists = list(metered(measured, exp, meter))
    front = write_front(search, history, finalists)
    print_table(measurement_table(finalists, front, config.data.dev, config.search.cost))
    minutes = (time.monotonic() - start) / 60
    typer.echo(_in_words(write_summary(search, history, done=done, minutes=minutes, workers=workers)))
    limits = Limits.from_options(max_params, max_int8_mb, max_macs, max_rtf).tightened(search.feasible.limits)
    best = best_under(read_candidates(exp), limits)
    typer.echo(f"best{' under the limits' if limits.given else ''}: {best.subnet.id}, dev WER {best.wer:.2f} %")


main = partial(entry, run)


def _slices(experiment: Experiment, data: Path, widths: list[float]) -> None:
    from slimasr.data.evaluation_notes import evaluation_notes
    from slimasr.data.provenance import checked_identity
    from slimasr.measure.slices import measure_slices

    config = experiment.config.data
    sets = {name: _batches(experiment, data, name) for name in (config.dev, *config.test)}
    fingerprints = {name: checked_identity(experiment.config, data, name).fingerprint for name in sets}
    for name in sets:
        print_notes(evaluation_notes(experiment.config, data, name, experiment.tokenizer, losses=True))
    for subnet, wers in progress(measure_slices(experiment, widths, sets, fingerprints), len(widths), "slices"):
        figures = ", ".join(f"{name} {wer:.2f} %" for name, wer in wers.items())
        typer.echo(f"untrained slice {subnet.id}: WER {figures}")


def _gpus(experiment: Experiment) -> int:
    return int(experiment.model.feature_mean.is_cuda)


def _batches(experiment: Experiment, data: Path, set_name: str) -> Batches:
    from slimasr.data.dataloading import eval_batches

    config = experiment.config
    return partial(eval_batches, config, data, set_name, experiment.tokenizer, config.decoding.batch_seconds)


def _in_words(summary: Summary) -> str:
    """How fast the search was, in one line."""
    words = f"{summary.candidates} of {summary.space:,} subnets evaluated"
    words += f", {summary.stopped_early} given up early" if summary.stopped_early else ""
    words += f", in {summary.minutes:.1f} min ({summary.per_minute:.1f} per minute)"
    training = summary.train_minutes
    return f"{words}, {100 * summary.minutes / training:.1f} % of the training time" if training else words


def _widths(text: str) -> list[float]:
    try:
        widths = [float(part) for part in text.split(",")]
    except ValueError:
        widths = []
    if not widths or not all(0.0 < width <= 1.0 for width in widths):
        raise UserError(f"--slice {text}: needs widths above 0 and at most 1, e.g. 0.75,0.5,0.25")
    return widths
