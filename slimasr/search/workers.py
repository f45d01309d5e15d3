"""Several workers on one machine: processes of one thread each that share nothing but the study."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

import torch

from slimasr.errors import UserError, one_line
from slimasr.search.history import Candidate
from slimasr.search.search import Job, Search

POLL_SECONDS = 0.5
"""Seconds between two looks at the workers and at the study."""
FAREWELL_SECONDS = 5.0
"""Seconds in which workers may end by themselves before they are terminated."""
_THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def run_workers(job: Job, search: Search, number: int) -> Iterator[Candidate]:
    """Let workers finish the search.

    A worker that dies is reported, and what it had claimed is left to the others.

    Args:
        job: what every worker opens for itself.
        search: the same search, open in this process.
        number: how many workers to start.

    Yields:
        Every candidate that becomes known in the meantime, from other machines too.

    Raises:
        UserError: the dev set cannot be used, or all workers ended before the search did.
    """
    # Every worker would report what is wrong with the dev set. This process loads it first, reports it once, and needs
    # the set for the Pareto front anyway.
    search.load_dev_set()
    workers = _start(job, number)
    known = {candidate.subnet for candidate in search.study.history().finished}
    try:
        alive = list(workers)
        while alive:
            time.sleep(POLL_SECONDS)
            ended = [worker for worker in alive if not worker.is_alive()]
            alive = [worker for worker in alive if worker not in ended]
            for worker in ended:
                _report(worker, others=bool(alive))
                search.study.reap()
            for candidate in search.study.history().finished:
                if candidate.subnet not in known:
                    known.add(candidate.subnet)
                    yield candidate
    finally:
        _end(workers)
    if all(worker.exitcode for worker in workers):
        killed = any(worker.exitcode and worker.exitcode < 0 for worker in workers)
        advice = "run the same command again to resume" if killed else "the reasons are above"
        raise UserError(f"all workers ended before the search did: {advice}")


def _start(job: Job, number: int) -> list[BaseProcess]:
    # A forked process would inherit threads and connections of this one that it cannot use.
    context = multiprocessing.get_context("spawn")
    workers: list[BaseProcess] = [context.Process(target=_work, args=(job,)) for _ in range(number)]
    with _one_thread():
        for worker in workers:
            worker.start()
    return workers


def _work(job: Job) -> None:
    """Body of a worker process; it ends with its parent."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    try:
        for _ in job.open().work(lambda: parent is None or parent.is_alive()):
            pass
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if job.debug:
            traceback.print_exc()
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(1)


def _report(worker: BaseProcess, *, others: bool) -> None:
    """Print how a worker ended if it failed; ``others``: whether some are still at work."""
    if not worker.exitcode:
        return
    killed = worker.exitcode < 0
    how = signal.Signals(-worker.exitcode).name if killed else f"exit status {worker.exitcode}"
    rest = "; the others continue" if others else ""
    print(f"worker {worker.pid} ended early ({how}){rest}", file=sys.stderr)


def _end(workers: Sequence[BaseProcess]) -> None:
    """Wait for the workers, and terminate those that do not end in time.

    Workers that were interrupted together with this process use that time to give back what they had claimed.
    """
    deadline = time.monotonic() + FAREWELL_SECONDS
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
        if worker.is_alive():
            worker.terminate()
        worker.join()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let new processes use one thread: numerical libraries read their thread count when a process starts."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(_THREADS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
