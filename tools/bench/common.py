"""What the benchmarks share: the median time of a call, and one line of JSON per result."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable


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
        json.dumps({key: float(f"{x:.4g}") if isinstance(x, float) else x for key, x in line.items()}),
        flush=True,
    )
