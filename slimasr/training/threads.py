"""The number of processor threads of a run: named by the recipe, or chosen by timing training steps (``auto``).

A step consists of many small operations, between which threads wait for each other. If another program needs the
processor, additional threads then slow the step down. More threads are therefore used only if they gain enough.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from slimasr.training.distributed import World

SHARE = 0.02
"""Largest fraction of the run that the timing may take."""

DOUBLING_GAIN = 1.3
"""Factor by which each doubling of the threads must speed a step up. With a smaller gain, two threads cost more time
when one other program is busy than they save on an idle machine."""

DROP_FACTOR = 2.0
"""Factor by which a number of threads is slower than a smaller one when it is not timed again, nor any larger one."""

ROUNDS = 5
"""Largest number of steps that are timed with each number of threads."""


@dataclass(frozen=True)
class Choice:
    """A number of threads, and one sentence that says why."""

    threads: int
    reason: str

    def __str__(self) -> str:
        return f"{count_threads(self.threads)}: {self.reason}"


def set_threads(named: int | str | None, stored: int | None, say: Callable[[str], None]) -> int:
    """Set the number of threads that a recipe names, and return the number in use.

    Args:
        named: ``training.num_threads``, or the number chosen for ``auto``.
        stored: the number of the checkpoint from which the run resumes, for ``auto``; None = PyTorch's choice.
        say: receives a note if the run continues with another number.
    """
    number = named if isinstance(named, int) else stored if named == "auto" else None
    if number is not None:
        torch.set_num_threads(number)
    used = torch.get_num_threads()
    if stored not in (None, used):
        say(f"resuming with {count_threads(used)}, the checkpoint is from {stored}: sums may be rounded differently")
    return used


def count_threads(number: int) -> str:
    """Return ``1 thread``, ``2 threads``."""
    return f"{number} thread" if number == 1 else f"{number} threads"


def usable_processors() -> int:
    """Return the number of processors that this process may use, without the limits of a container's time share."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def most_threads(world: World) -> int:
    """Return the largest number of threads that ``auto`` may choose, the same on all processes.

    The processes of one machine share its processors. ``OMP_NUM_THREADS`` is a further limit, except under torchrun,
    which sets it to 1 by itself.
    """
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world.size))
    most = usable_processors() // here
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if world.size == 1 and limit.isdecimal():
        most = min(most, int(limit))
    return max(1, min(world.gather(most)))


def counts_up_to(most: int) -> list[int]:
    """Return the numbers of threads to try: 1, 2, 4 and so on, and the largest one."""
    counts = [1]
    while 2 * counts[-1] <= most:
        counts.append(2 * counts[-1])
    return counts if counts[-1] == most else [*counts, most]


def choose_threads(trial: Callable[[], object], planned: int, world: World) -> Choice:
    """Time a training step with several numbers of threads, and return the best one; the present number stays set.

    The processes run the same steps together. The time of a step is that of the slowest process, so all of them make
    the same choice.

    Args:
        trial: runs a batch forward and backward without changing the state of the run.
        planned: number of batches that this process has still to train.
        world: this process among all of the run's.
    """
    before = torch.get_num_threads()
    try:
        return _choose(trial, planned, world)
    finally:
        torch.set_num_threads(before)


def _choose(trial: Callable[[], object], planned: int, world: World) -> Choice:
    counts = counts_up_to(most_threads(world))
    if counts == [1]:
        return Choice(1, "a process may use no more here (processors, OMP_NUM_THREADS)")

    def timed(threads: int) -> float:
        torch.set_num_threads(threads)
        start = time.perf_counter()
        trial()
        return max(world.gather(time.perf_counter() - start))

    # The first step, which makes the libraries ready, and two more must fit into the time.
    if SHARE * planned < 3:
        return Choice(1, f"timing steps does not pay, as only {planned} batches are left to train")
    seconds = measure(timed, counts, planned)
    threads = fastest_that_pays(seconds)
    figures = ", ".join(f"{value:.3f} s with {number}" for number, value in seconds.items())
    return Choice(threads, f"a batch takes {figures}; each doubling must be {DOUBLING_GAIN:g} times as fast")


def measure(timed: Callable[[int], float], counts: Sequence[int], planned: int) -> dict[int, float]:
    """Return the median seconds of a step by number of threads, for those numbers that were timed.

    The numbers are timed alternately, so that other work on the machine affects all of them equally. A step is not
    started if it would probably exceed `SHARE` of the run.

    Args:
        timed: runs a step with a number of threads, and returns its seconds.
        counts: numbers of threads, smallest first.
        planned: number of such steps in the run.
    """
    alive = list(counts)
    # The time of the first step is ignored, because libraries initialise themselves in it.
    timed(1)
    spent = 0.0
    found: dict[int, list[float]] = {}
    for _ in range(ROUNDS):
        for position, threads in enumerate(alive):
            # The run is at least as long as its steps would be if all were like the shortest.
            shortest = min((min(values) for values in found.values()), default=0.0)
            longest = max(found.get(threads, [shortest]))
            # The first step has taken the time of one.
            if spent + longest > (SHARE * planned - 1) * shortest:
                return _medians(found)
            found.setdefault(threads, []).append(timed(threads))
            spent += found[threads][-1]
            fastest = min(found[number][-1] for number in alive[: position + 1])
            if found[threads][-1] > DROP_FACTOR * fastest:
                del alive[position:]
                break
    return _medians(found)


def _medians(found: Mapping[int, Sequence[float]]) -> dict[int, float]:
    return {threads: statistics.median(values) for threads, values in found.items()}


def fastest_that_pays(seconds: Mapping[int, float]) -> int:
    """Return the number of threads to take, given the seconds of a step with each, smallest number first.

    A larger number is taken if it is faster than the one taken so far by `DOUBLING_GAIN` for each doubling.
    """
    taken = next(iter(seconds))
    for threads, value in seconds.items():
        # Three times as many threads are 1.58 doublings.
        doublings = math.log2(threads / taken)
        if seconds[taken] >= value * DOUBLING_GAIN**doublings:
            taken = threads
    return taken
