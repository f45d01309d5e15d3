"""What the benchmarks share: the median time of a call, the memory it takes, and one line of JSON per result."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from slimasr.files import to_json


def median_seconds(call: Callable[[], object], repeats: int = 5, warm_ups: int = 1) -> float:
    """Median wall-clock seconds of ``call()``, after ``warm_ups`` calls that do not count."""
    for _ in range(warm_ups):
        call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def resident_bytes(field: str) -> int:
    """Resident memory of this process now (``VmRSS``) or at most (``VmHWM``); Linux.

    getrusage's peak would not do: a child process starts with its parent's.
    """
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[field].split()[0]) * 1024


def added_peak_megabytes(script: str, side: str, *arguments: str) -> float:
    """The number of bytes that ``script --peak-bytes-of side`` with these arguments prints, in units of 10^6 bytes.

    Run in a fresh process, where the C library is told to return freed tensors at once, so that the peak is that
    of living tensors on all sides and not of what its heap had kept of the smaller ones.
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
        other: the side it is compared with, measured in the same run.
        ratio: the two sides' ratio, the way round in which ``target`` limits it.
        target: bound on ``ratio``, or None where there is none.
        extra: further measurements of the same run.
    """
    line: dict[str, float | str | None] = {
        "name": name,
        "ours": ours,
        "other": other,
        "ratio": ratio,
        "target": target,
        **extra,
    }
    print(
        to_json({key: float(f"{x:.4g}") if isinstance(x, float) else x for key, x in line.items()}),
        flush=True,
    )
