"""Several workers on one machine: single-threaded processes that share nothing but the study."""

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
"""Seconds between two checks of the workers and the study."""
FAREWELL_SECONDS = 5.0
"""Seconds that workers have to end before they are terminated."""
_THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def run_workers(job: Job, search: Search, number: int) -> Iterator[Candidate]:
    """Start workers, and wait until they have finished the search.

    A worker that dies is reported, and the others take over what it had claimed.

    Args:
        job: the search, which every worker opens for itself.
        search: the same search, open in this process.
        number: number of workers to start.

    Yields:
        Every candidate that is finished in the meantime, including those of other machines.

    Raises:
        UserError: the dev set cannot be used, or all workers ended before the search did.
    """
    # Every worker would report the same fault in the dev set. So this process loads it first and reports it once; it
    # needs the set for the finalists anyway.
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
            # After the check of the workers, so that the last candidates of a worker that has ended are seen as well.
            for candidate in search.study.history().finished:
                if candidate.subnet not in known:
                    known.add(candidate.subnet)
                    yield candidate
    finally:
        _end(workers)
    # One worker that ends normally has seen the end of the search. A negative exit code is the signal that killed one.
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
    """Run a worker process, which stops before its next claim if its parent has ended."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    try:
        for _ in job.open().work(lambda: parent is None or parent.is_alive()):
            pass
    except KeyboardInterrupt:
        # The shell's exit status for SIGINT. The terminal interrupts all processes, and the parent reports it.
        sys.exit(130)
    except Exception as error:
        if job.debug:
            traceback.print_exc()
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(1)


def _report(worker: BaseProcess, *, others: bool) -> None:
    """Print how a worker ended if it failed; ``others`` is whether some are still running."""
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
    # One deadline for all of them together.
    deadline = time.monotonic() + FAREWELL_SECONDS
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
        if worker.is_alive():
            worker.terminate()
        worker.join()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Make processes that are started inside the block use one thread each.

    Numerical libraries read their thread count from the environment when they are loaded, before `_work` is called.
    """
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
