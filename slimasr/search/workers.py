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
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from slimasr.config.load import load_config
from slimasr.data.dataloading import eval_batches
from slimasr.data.evaluation_notes import evaluation_notes
from slimasr.data.provenance import checked_identity, unverified_sets
from slimasr.decoding.decode import default_device
from slimasr.errors import UserError, one_line
from slimasr.experiment import Experiment
from slimasr.search.history import Candidate
from slimasr.search.run import Search

POLL_SECONDS = 0.5
FAREWELL_SECONDS = 5.0
"""In which workers may end by themselves."""
BATCH_SECONDS = 50.0
"""At most so much audio through the encoder at once: batches of like lengths need little padding."""
_THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Job:
    """What a worker needs to open the search for itself.

    Attributes:
        exp: experiment folder.
        data: folder of the recipe's data.
        overrides: ``search.<key>=<value>`` or ``decoding.<key>=<value>``, as candidates may be decoded in another way.
        storage: as in `Search.open`.
        debug: whether a worker shows the traceback of its error.
    """

    exp: Path
    data: Path
    overrides: tuple[str, ...] = ()
    storage: str | None = None
    debug: bool = False

    def experiment(self) -> Experiment:
        """The experiment, with the overrides.

        Raises:
            UserError: an override of something else, which training has fixed.
        """
        for override in self.overrides:
            if not override.startswith(("search.", "decoding.")):
                raise UserError(f"--set {override}: of a trained experiment, search and decoding alone may be changed")
        experiment = Experiment.open(self.exp)
        experiment.model.to(default_device())
        return replace(experiment, config=load_config(self.exp / "config.yaml", self.overrides))

    def open(self) -> Search:
        """The search.

        Raises:
            UserError: as `Experiment.open` and `Search.open` do.
        """
        experiment = self.experiment()
        config = experiment.config
        seconds = min(config.decoding.batch_seconds, BATCH_SECONDS)
        batches = partial(eval_batches, config, self.data, config.data.dev, experiment.tokenizer, seconds)
        dev_data = checked_identity(config, self.data, config.data.dev).fingerprint
        return Search.open(experiment, batches, dev_data, self.storage)

    def notes(self, search: Search) -> list[str]:
        """What the user should know of the study and of the dev set."""
        experiment = search.experiment
        config = experiment.config
        unverified = unverified_sets(config, self.data, [config.data.dev])
        of_dev = evaluation_notes(config, self.data, config.data.dev, experiment.tokenizer, losses=True)
        return [*search.study.notes, *unverified, *of_dev]


def run_workers(job: Job, search: Search, number: int) -> Iterator[Candidate]:
    """Let workers finish the search; gives every candidate that becomes known meanwhile.

    A worker that dies is named, and what it had begun is left to the others.

    Raises:
        UserError: the dev set cannot be used, or all workers ended before the search did.
    """
    _ = search.evaluator  # what is wrong with the dev set is said once, and not by every worker
    context = multiprocessing.get_context("spawn")
    with _one_thread():
        workers: list[BaseProcess] = [context.Process(target=_work, args=(job,)) for _ in range(number)]
        for worker in workers:
            worker.start()
    known = {candidate.subnet for candidate in search.study.history().finished}
    try:
        alive = list(workers)
        while alive:
            time.sleep(POLL_SECONDS)
            ended = [worker for worker in alive if not worker.is_alive()]
            alive = [worker for worker in alive if worker not in ended]
            for worker in ended:
                _report(worker, bool(alive))
                search.study.reap()
            for candidate in search.study.history().finished:
                if candidate.subnet not in known:
                    known.add(candidate.subnet)
                    yield candidate
    finally:
        _end(workers)
    if all(worker.exitcode for worker in workers):
        killed = any(worker.exitcode and worker.exitcode < 0 for worker in workers)
        advice = "run the same command again to go on" if killed else "the reasons are above"
        raise UserError(f"all workers ended before the search did: {advice}")


def _work(job: Job) -> None:
    """What a worker does; it ends with its parent."""
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


def _report(worker: BaseProcess, others: bool) -> None:
    if worker.exitcode:
        how = signal.Signals(-worker.exitcode).name if worker.exitcode < 0 else f"exit status {worker.exitcode}"
        rest = "; the others go on" if others else ""
        print(f"worker {worker.pid} ended early ({how}){rest}", file=sys.stderr)


def _end(workers: Sequence[BaseProcess]) -> None:
    """What was interrupted together with this process gives back what it had claimed, if it is given the time."""
    deadline = time.monotonic() + FAREWELL_SECONDS
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
        if worker.is_alive():
            worker.terminate()
        worker.join()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Numerical libraries read their thread count when a process starts."""
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
