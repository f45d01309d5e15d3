"""Time of the quickstart's training step beside one busy process against alone, on two processors.

Each side has the number of threads that ``slimasr-train`` with ``training.num_threads: auto`` chooses there. The line
also has the seconds of each side with one and with two threads.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from common import median_seconds, report
from steps import make_step, noise_batch

from slimasr.config.load import load_config
from slimasr.training.distributed import World
from slimasr.training.threads import choose_threads

PRESET = Path(__file__).resolve().parents[2] / "egs/digits/conf/slimmable.yaml"
UTTERANCES, SECONDS = 10, 3
PLANNED = 600
REPEATS = 15
TARGET = 1.5


@contextmanager
def busy_process() -> Iterator[None]:
    """Let another process compute without a pause; it has the processors of this one."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def step_seconds() -> tuple[int, dict[int, float]]:
    """Return the number of threads that training chooses now, and the seconds of a step with one and two threads."""
    config = load_config(PRESET)
    step = partial(make_step(config), noise_batch(config, UTTERANCES, SECONDS))
    chosen = choose_threads(step, PLANNED, World())
    print(f"auto takes {chosen}", file=sys.stderr)
    seconds = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        seconds[threads] = median_seconds(step, REPEATS)
    return chosen.threads, seconds


def main() -> None:
    """Measure both sides."""
    # The choice is not to be limited by the environment, but to two processors, of which the busy process takes one.
    os.environ.pop("OMP_NUM_THREADS", None)
    processors = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, processors)
    alone_threads, alone = step_seconds()
    with busy_process():
        beside_threads, beside = step_seconds()
    ours = beside[beside_threads]
    other = alone[alone_threads]
    report(
        f"quickstart step beside a busy process against alone, {len(processors)} processors, seconds",
        ours,
        other,
        ours / other,
        TARGET,
        threads=beside_threads,
        threads_alone=alone_threads,
        one_thread=beside[1],
        two_threads=beside[2],
        one_thread_alone=alone[1],
        two_threads_alone=alone[2],
    )


if __name__ == "__main__":
    main()
