"""Functions that the benchmarks share: the median time of a call, its memory, and one line of JSON per result."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from slimasr.files import to_json


def median_seconds(call: Callable[[], object], repeats: int = 5, warm_ups: int = 1) -> float:
    """Return the median wall-clock seconds of ``call()``, after ``warm_ups`` calls that do not count."""
    for _ in range(warm_ups):
        call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


class ChildSeconds(NamedTuple):
    """Processor and wall-clock seconds of a command."""

    cpu: float
    wall: float


def child_seconds(command: Sequence[str]) -> ChildSeconds:
    """Run a command to its end without its output, and return its times.

    Raises:
        SystemExit: the command has failed.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    # `wait4` returns the resources of this child alone.
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: failed")
    return ChildSeconds(usage.ru_utime + usage.ru_stime, time.perf_counter() - start)


def resident_bytes(field: str) -> int:
    """Return the resident memory of this process now (``VmRSS``) or its peak (``VmHWM``) in bytes; Linux only.

    The peak of getrusage cannot be used, because a child process starts with the peak of its parent.
    """
    # The kernel reports kB, which are units of 1024 bytes.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[field].split()[0]) * 1024


def added_peak_megabytes(script: str, side: str, *arguments: str) -> float:
    """Run ``script --peak-bytes-of side`` and return the number of bytes that it prints, in units of 10^6 bytes.

    It runs in a fresh process, in which the C library returns freed tensors to the system at once. So the peak is that
    of tensors in use, and does not include freed tensors that the heap would keep.
    """
    command = [sys.executable, script, "--peak-bytes-of", side, *arguments]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    child = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return int(child.stdout) / 1e6


def report(name: str, ours: float, other: float, ratio: float, target: float | None, **extra: float | str) -> None:
    """Print one result as a line of JSON.

    Args:
        name: what is measured, with its unit.
        ours: our side.
        other: the side with which it is compared, measured in the same run.
        ratio: ratio of the two sides, in the direction that ``target`` limits.
        target: bound on ``ratio``, or None if there is none.
        extra: further measurements of the same run.
    """
    report_figures(name, ours=ours, other=other, ratio=ratio, target=target, **extra)


def report_figures(name: str, **figures: float | str | None) -> None:
    """Print what was measured under one name as a line of JSON."""
    # Four digits are more than a timing is exact to.
    rounded = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in figures.items()}
    print(to_json({"name": name, **rounded}), flush=True)
