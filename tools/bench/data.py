"""Training data in memory: start-up, memory and delivery of batches, against an earlier revision and against lhotse.

Data are made up (`made_up_data`): any number of utterances with LibriSpeech's lengths share few recordings. Every side
runs in a process of its own (`data_side`) on the same data folder, and time is processor time of one thread.

    python tools/bench/data.py [startup | growth | delivery]

``startup`` is opening, counting the steps of all epochs, planning an epoch, and memory; ``growth`` is memory against
the number of utterances; ``delivery`` is utterances per second that reach the trainer.

The earlier revision, which kept every utterance as an object of lhotse, is taken from the history of the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import report, report_figures
from made_up_data import make_data
from made_up_recipe import recipe

ROOT = Path(__file__).resolve().parents[2]
SIDE = Path(__file__).with_name("data_side.py")
BEFORE = "9a8cd99"
"""The last revision that kept every utterance as an object of lhotse."""

EPOCHS = 30
SPEEDS = (0.9, 1.0, 1.1)
FOLDER_MB = 500.0


def side(data: Path, code: Path, *arguments: str) -> dict[str, Any]:
    """Run one side with the slimasr package in the folder ``code``, and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SIDE), str(data), *arguments]
    child = subprocess.run(command, capture_output=True, text=True, env=environment)
    if child.returncode:
        raise SystemExit(f"{SIDE.name} of {code} ended with status {child.returncode}:\n{child.stderr}")
    result: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    assert Path(result.pop("code")).parent == code, "another slimasr was imported"
    return result


def code_of(revision: str, folder: Path) -> Path:
    """Extract the package as it was at a revision."""
    archive = subprocess.run(
        ["git", "archive", revision, "slimasr"], check=True, cwd=ROOT, stdout=subprocess.PIPE
    ).stdout
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], check=True, input=archive)
    return folder


def made(folder: Path, count: int) -> Path:
    """A data folder of so many utterances, which is made if it is not there."""
    # Paths are absolute, so that a folder cannot be renamed when it is complete.
    data, complete = folder / f"{count}", folder / f"{count}" / "complete"
    if not complete.exists():
        shutil.rmtree(data, ignore_errors=True)
        make_data(data, count, recipe())
        complete.touch()
    return data


def startup(folder: Path, count: int, revision: str) -> None:
    """Print what it takes to begin a run, before and after, with one speed and with three speeds made from audio."""
    data = made(folder, count)
    with tempfile.TemporaryDirectory() as temporary:
        before_code = code_of(revision, Path(temporary) / "before")
        for speeds in ((1.0,), SPEEDS):
            options = ["startup", "--speeds", *map(str, speeds)]
            # Each epoch takes as long as the others, so that the slow side counts a few.
            before = side(data, before_code, *options, "--epochs", "3")
            after = side(data, ROOT, *options, "--epochs", str(EPOCHS))
            what = f"{count} utterances, {len(speeds)} speed{'s' if len(speeds) > 1 else ''}"
            for name, key, times, target in (
                (f"open, s ({what})", "open_s", 1, 8 / 11),
                (f"count the steps of {EPOCHS} epochs, s ({what})", "count_s_of_an_epoch", EPOCHS, 3 / 66),
                (f"plan an epoch up to its first batch, s ({what})", "plan_s", 1, 4 / 6.5),
            ):
                report(name, times * after[key], times * before[key], after[key] / before[key], target)
            peak = after["peak_mb"]
            report(f"peak memory, MB ({what})", peak, before["peak_mb"], peak / FOLDER_MB, 1.0, empty=after["empty_mb"])


def growth(folder: Path, counts: Sequence[int], revision: str, plot: Path | None) -> None:
    """Print the memory of a process with its epoch planned, above that of an empty one, and draw it."""
    curves: dict[str, list[float]] = {"before": [], "after": []}
    with tempfile.TemporaryDirectory() as temporary:
        before_code = code_of(revision, Path(temporary) / "before")
        for count in counts:
            data = made(folder, count)
            for name, code in (("before", before_code), ("after", ROOT)):
                result = side(data, code, "startup", "--epochs", "1")
                curves[name].append(result["planned_mb"] - result["empty_mb"])
            added = {name: values[-1] for name, values in curves.items()}
            report_figures(f"memory of {count} utterances above an empty process, MB", **added)
    if plot is not None:
        draw(plot, counts, curves)


def draw(path: Path, counts: Sequence[int], curves: dict[str, list[float]]) -> None:
    """Draw memory against the number of utterances."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    for name, values in curves.items():
        axes.plot(counts, values, marker="o", label=name)
    axes.set(xscale="log", yscale="log", xlabel="training utterances", ylabel="MB above an empty process")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def delivery(folder: Path, count: int, workers: Sequence[int]) -> None:
    """Print utterances of 13 s per second of clock time that a loop receives, ours and lhotse's."""
    data = made(folder, count)
    for number in workers:
        rates = side(data, ROOT, "deliver", "--workers", str(number))
        ratio = rates["ours"] / rates["lhotse"]
        report(f"utterances per second, {number} workers", rates["ours"], rates["lhotse"], ratio, 0.9)


def main() -> None:
    """Run the benchmarks that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=["startup", "growth", "delivery"], help="default: all of them")
    parser.add_argument(
        "--folder", type=Path, help="folder of made-up data, kept for the next time; default: temporary"
    )
    parser.add_argument("--count", type=int, default=281241, help="utterances of startup")
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000], help="utterances of growth")
    parser.add_argument("--delivered", type=int, default=10_000, help="utterances of delivery")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="loader workers of delivery")
    parser.add_argument("--revision", default=BEFORE, help="the earlier code")
    parser.add_argument("--plot", type=Path, help="file for the plot of growth")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if arguments.part in (None, "startup"):
            startup(folder, arguments.count, arguments.revision)
        if arguments.part in (None, "growth"):
            growth(folder, arguments.counts, arguments.revision, arguments.plot)
        if arguments.part in (None, "delivery"):
            delivery(folder, arguments.delivered, arguments.workers)


if __name__ == "__main__":
    main()
