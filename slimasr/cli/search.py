"""Stage 5: measure the subnets on dev, find the front, choose under limits."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from slimasr.cli.common import DataOption, DebugOption, ExpArgument, above_zero, opened, print_notes, progress
from slimasr.cli.common import entry as run_command
from slimasr.data.dataloading import eval_batches
from slimasr.data.evaluation_notes import evaluation_notes
from slimasr.data.provenance import checked_identity
from slimasr.energy import measure_energy
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.archive import read_candidates
from slimasr.measure.quality import Batches
from slimasr.measure.slices import measure_slices
from slimasr.report.tables import measurement_table
from slimasr.report.terminal import print_table
from slimasr.search.energy import metered
from slimasr.search.finalists import choose_finalists, measure_finalists, write_front, write_summary
from slimasr.search.workers import Job, run_workers
from slimasr.supernet.front import Limits, best_under

MaxParams = Annotated[float | None, typer.Option(callback=above_zero, help="At most so many parameters, e.g. 2e6.")]
MaxInt8 = Annotated[
    float | None,
    typer.Option("--max-int8-mb", callback=above_zero, help="At most so many megabytes (1e6 bytes) in int8."),
]
MaxMacs = Annotated[float | None, typer.Option(callback=above_zero, help="At most so many MACs per second of audio.")]
MaxRtf = Annotated[float | None, typer.Option(callback=above_zero, help="At most this real-time factor, one thread.")]
SliceOption = Annotated[
    str | None,
    typer.Option("--slice", help="Instead: WER of untrained slices of a separate model, e.g. 0.75,0.5,0.25."),
]
SearchSetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Override one key of the sections search and decoding, e.g. search.int8=true; repeatable.",
        metavar="KEY=VALUE",
    ),
]
WorkersOption = Annotated[
    int, typer.Option(min=1, max=1024, help="Processes of one thread each (1: this one, all threads).")
]
StorageOption = Annotated[
    str | None,
    typer.Option(help="Database that several machines share, postgresql://user@host/name (default: a file in EXP)."),
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
    """Evaluate subnets on dev (run again to go on), print the front, name the best under limits."""
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


def main() -> None:
    """Console script ``slimasr-search``."""
    run_command(run)


def _slices(experiment: Experiment, data: Path, widths: list[float]) -> None:
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
    config = experiment.config
    return partial(eval_batches, config, data, set_name, experiment.tokenizer, config.decoding.batch_seconds)


def _in_words(summary: Mapping[str, Any]) -> str:
    """How fast the search was, in one line."""
    words = f"{summary['candidates']} of {summary['space']:,} subnets evaluated"
    words += f", {summary['stopped_early']} given up early" if summary["stopped_early"] else ""
    words += f", in {summary['minutes']:.1f} min ({summary['per_minute']:.1f} per minute)"
    training = summary["train_minutes"]
    return f"{words}, {100 * summary['minutes'] / training:.1f} % of the training time" if training else words


def _widths(text: str) -> list[float]:
    try:
        widths = [float(part) for part in text.split(",")]
    except ValueError:
        widths = []
    if not widths or not all(0.0 < width <= 1.0 for width in widths):
        raise UserError(f"--slice {text}: needs widths above 0 and at most 1, e.g. 0.75,0.5,0.25")
    return widths
