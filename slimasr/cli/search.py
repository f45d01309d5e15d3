"""Stage 5: measure the subnets on dev, find the front, choose under limits."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from slimasr.cli.common import DataOption, DebugOption, ExpArgument, progress
from slimasr.cli.common import entry as run_command
from slimasr.data.dataloading import eval_batches
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.report.tables import measurement_table
from slimasr.report.terminal import print_table
from slimasr.search.evaluate import Batches
from slimasr.search.front import Limits, best_under
from slimasr.search.generators import build_generator
from slimasr.search.run import Search, measure_slices

MaxParams = Annotated[float | None, typer.Option(help="At most so many parameters, e.g. 2e6.")]
MaxInt8 = Annotated[float | None, typer.Option("--max-int8-mb", help="At most so many megabytes (1e6 bytes) in int8.")]
MaxMacs = Annotated[float | None, typer.Option(help="At most so many MACs per second of audio.")]
MaxRtf = Annotated[float | None, typer.Option(help="At most this real-time factor, one thread.")]
SliceOption = Annotated[
    str | None,
    typer.Option("--slice", help="Instead: WER of untrained slices of a separate model, e.g. 0.75,0.5,0.25."),
]


def run(
    exp: ExpArgument,
    data: DataOption = Path("data"),
    max_params: MaxParams = None,
    max_int8_mb: MaxInt8 = None,
    max_macs: MaxMacs = None,
    max_rtf: MaxRtf = None,
    slices: SliceOption = None,
    debug: DebugOption = False,
) -> None:
    """Measure all subnets on dev (run again to go on), print the front, name the best under limits."""
    experiment = Experiment.open(exp)
    if slices is not None:
        _slices(experiment, data, _widths(slices))
        return
    generator = build_generator(experiment.config.search, experiment.space)
    search = Search(experiment, generator, _batches(experiment, data, experiment.config.data.dev))
    for _ in progress(search.measure(), search.remaining, "search"):
        pass
    front = search.write_front()
    config = experiment.config
    print_table(measurement_table(list(search.archive.values()), front, config.data.dev, config.search.cost))
    limits = Limits.from_options(max_params, max_int8_mb, max_macs, max_rtf)
    best = best_under(list(search.archive.values()), limits)
    typer.echo(f"best{' under the limits' if limits.given else ''}: {best.subnet.id}, dev WER {best.wer:.2f} %")


def main() -> None:
    """Console script ``slimasr-search``."""
    run_command(run)


def _slices(experiment: Experiment, data: Path, widths: list[float]) -> None:
    config = experiment.config.data
    sets = {name: _batches(experiment, data, name) for name in (config.dev, *config.test)}
    for subnet, wers in progress(measure_slices(experiment, widths, sets), len(widths), "slices"):
        figures = ", ".join(f"{name} {wer:.2f} %" for name, wer in wers.items())
        typer.echo(f"untrained slice {subnet.id}: WER {figures}")


def _batches(experiment: Experiment, data: Path, set_name: str) -> Batches:
    config = experiment.config
    return partial(eval_batches, config, data, set_name, experiment.tokenizer, config.decoding.batch_seconds)


def _widths(text: str) -> list[float]:
    try:
        widths = [float(part) for part in text.split(",")]
    except ValueError:
        widths = []
    if not widths or not all(0.0 < width <= 1.0 for width in widths):
        raise UserError(f"--slice {text}: needs widths above 0 and at most 1, e.g. 0.75,0.5,0.25")
    return widths
