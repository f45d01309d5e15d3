"""``slimasr-search`` (stage 5): evaluate subnets on the dev set, find the Pareto front, choose within limits."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slimasr.cli.common import (
    DataOption,
    DebugOption,
    ExpArgument,
    MaxInt8,
    MaxLatency,
    MaxMacs,
    MaxParams,
    MaxRtf,
    entry,
    one_thread,
    opened,
    print_notes,
    progress,
    quick_imports,
)
from slimasr.errors import UserError

if TYPE_CHECKING:
    from slimasr.results.profile import Precision
    from slimasr.results.search import Summary
    from slimasr.search.latency.device import LatencyOptions
    from slimasr.search.search import Job
    from slimasr.search.stage import SearchResult

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
        help="Number of single-threaded worker processes; 1 evaluates in this process, with one thread too.",
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
LatencyOption = Annotated[
    Path | None,
    typer.Option(
        "--latency",
        metavar="PROFILE",
        help="Profile of a device, which run.py profile --json of a bundle has written there: the latency of every "
        "subnet on this device, predicted from those profiled, becomes a cost; see also search.cost=latency.",
    ),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        "--latency-precision",
        metavar="PRECISION",
        help="Precision of the profile's rows to predict from, float or int8. Default: that of the search, see "
        "search.int8.",
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--latency-threads",
        metavar="NUMBER",
        min=1,
        max=1024,
        help="Number of threads of the profile's rows to predict from. Default: the fewest in the profile.",
    ),
]
PlanOption = Annotated[
    bool,
    typer.Option(
        "--latency-plan",
        help="Instead of searching, print the command that exports the subnets to profile on a device; with --latency "
        "only those that its profile lacks.",
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
    max_latency_ms: MaxLatency = None,
    latency: LatencyOption = None,
    latency_precision: PrecisionOption = None,
    latency_threads: ThreadsOption = None,
    latency_plan: PlanOption = False,
    slices: SliceOption = None,
    debug: DebugOption = False,
) -> None:
    """Evaluate subnets and write the Pareto front of WER and cost.

    Subnets are evaluated on the dev set. The Pareto front is written to EXP/search and printed, and the best subnet
    within the limits is named. Run the same command again to resume an interrupted search.
    """
    with quick_imports():
        from slimasr.report.tables.common import measurement_table
        from slimasr.report.tables.terminal import print_table
        from slimasr.search.search import Job
        from slimasr.search.stage import run_search
        from slimasr.supernet.front import Limits

    one_thread()
    options = _latency_options(latency, latency_precision, latency_threads)
    job = Job(exp, data, tuple(overrides or ()), storage, debug, options)
    if latency_plan:
        _print_plan(job)
        return
    if slices is not None:
        _slices(job, _widths(slices))
        return
    limits = Limits.from_options(max_params, max_int8_mb, max_macs, max_rtf, max_latency_ms)
    found = run_search(job, workers=workers, limits=limits, progress=progress, notes=print_notes)
    print_table(measurement_table(found.finalists, found.front, found.set_name, found.cost))
    typer.echo(_in_words(found.summary))
    title = "best under the limits" if found.limits.given else "best"
    if len(found.pathways) > 1:
        _print_best_pathways(found, title)
        return
    best = found.best()
    typer.echo(f"{title}: {best.subnet.id}, dev WER {best.wer:.2f} %")


main = partial(entry, run)


def _print_best_pathways(found: SearchResult, title: str) -> None:
    """Print the best subnet of each language; limits that one language cannot meet are no error of the others.

    Raises:
        UserError: no subnet of any language meets the limits.
    """
    failed: list[UserError] = []
    for language in found.pathways:
        try:
            best = found.best(language)
        except UserError as error:
            failed.append(error)
            print_notes([f"{language}: {error}"])
            continue
        typer.echo(f"{title} for {language}: {best.subnet.id}, dev WER {best.wer:.2f} %")
    if len(failed) == len(found.pathways):
        raise failed[0]


def _latency_options(profile: Path | None, precision: str | None, threads: int | None) -> LatencyOptions | None:
    """Return the choice of a profile's rows; None without a profile.

    Raises:
        UserError: the precision is not one, or rows are chosen of no profile.
    """
    from slimasr.search.latency.device import LatencyOptions

    if profile is None:
        if precision is not None or threads is not None:
            option = "--latency-precision" if precision is not None else "--latency-threads"
            raise UserError(f"{option}: chooses rows of a profile; name it by --latency PROFILE")
        return None
    known: tuple[Precision, ...] = ("float", "int8")
    chosen = next((name for name in known if name == precision), None)
    if precision is not None and chosen is None:
        raise UserError(f"--latency-precision {precision}: choose one of {', '.join(known)}")
    return LatencyOptions(profile, chosen, threads)


def _print_plan(job: Job) -> None:
    from slimasr.search.latency.device import profile_of
    from slimasr.search.latency.plan import export_command, planned_subnets

    experiment = opened(job.experiment())
    subnets = planned_subnets(experiment, job.latency)
    if not subnets:
        typer.echo(f"{job.latency.profile if job.latency else job.exp}: every choice of the search space is covered")
        return
    streaming = None if job.latency is None else profile_of(job.latency.profile, experiment).streaming
    typer.echo(export_command(job.exp, experiment.space, subnets, streaming))


def _slices(job: Job, widths: list[float]) -> None:
    from slimasr.measure.slices import measure_slices

    experiment = opened(job.experiment())
    for subnet, wers in measure_slices(experiment, job.data, widths, progress=progress, notes=print_notes):
        figures = ", ".join(f"{name} {wer:.2f} %" for name, wer in wers.items())
        typer.echo(f"untrained slice {subnet.id}: WER {figures}")


def _in_words(summary: Summary) -> str:
    """Say in one line how fast the search was."""
    words = f"{summary.candidates} of {summary.space:,} subnets evaluated"
    if summary.stopped_early:
        words += f", {summary.stopped_early} stopped early"
    words += f", in {summary.minutes:.1f} min ({summary.per_minute:.1f} per minute)"
    if summary.train_minutes:
        words += f", {100 * summary.minutes / summary.train_minutes:.1f} % of the training time"
    return words


def _widths(text: str) -> list[float]:
    """Read the numbers of ``--slice``.

    Raises:
        UserError: the text is not a list of numbers above 0 and at most 1.
    """
    try:
        widths = [float(part) for part in text.split(",")]
    except ValueError:
        widths = []
    # This comparison also refuses NaN.
    if not widths or not all(0.0 < width <= 1.0 for width in widths):
        raise UserError(f"--slice {text}: needs widths above 0 and at most 1, e.g. 0.75,0.5,0.25")
    return widths
