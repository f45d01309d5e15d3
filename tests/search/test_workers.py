"""Workers of one machine: how they begin, end, and say what went wrong."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slimasr.data.batches.batch import Batch
from slimasr.errors import UserError
from slimasr.search.search import Job, Search
from slimasr.search.workers import _end, run_workers
from tests.search.untrained import copy_of


def test_nothing_is_claimed_without_a_dev_set(untrained: Path, data: Path, tmp_path: Path) -> None:
    def missing() -> Iterator[Batch]:
        raise UserError("no features")

    search = replace(Job(copy_of(untrained, tmp_path / "exp"), data).open(), dev_batches=missing)
    with pytest.raises(UserError, match="no features"):
        next(search.work())
    assert not search.study._claims.rows() and not search.study._trials


class Broken(Job):
    """A worker's part of it fails."""

    def open(self) -> Search:
        raise RuntimeError("no such\noperation")


@pytest.mark.parametrize("debug", [False, True])
def test_what_nobody_foresaw_is_one_line_per_worker(
    untrained: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], debug: bool
) -> None:
    folder = copy_of(untrained, tmp_path / "exp")
    search = Job(folder, data).open()
    with pytest.raises(UserError, match=r"^all workers ended before the search did: the reasons are above$"):
        list(run_workers(Broken(folder, data, debug=debug), search, 2))
    output = capfd.readouterr().err
    lines = [line for line in output.splitlines() if not line.startswith("worker ")]
    said = ["error: RuntimeError: no such (unforeseen; --debug shows where)"] * 2
    assert ("Traceback" in output) is debug
    assert [line for line in lines if line.startswith("error: ")] == said
    assert debug or lines == said


def test_workers_may_end_by_themselves() -> None:
    context = multiprocessing.get_context("spawn")
    quick, slow = (context.Process(target=time.sleep, args=(seconds,)) for seconds in (0.1, 600.0))
    quick.start()
    slow.start()
    _end([quick, slow])
    assert quick.exitcode == 0
    assert slow.exitcode and slow.exitcode < 0
