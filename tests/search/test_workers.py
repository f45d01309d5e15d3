"""Workers of one machine: how they begin, end, and say what went wrong."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slimasr.data.batch import Batch
from slimasr.errors import UserError
from slimasr.search.workers import Job, _end
from tests.search.untrained import copy_of


def test_nothing_is_claimed_without_a_dev_set(untrained: Path, data: Path, tmp_path: Path) -> None:
    def missing() -> Iterator[Batch]:
        raise UserError("no features")

    search = replace(Job(copy_of(untrained, tmp_path / "exp"), data).open(), dev_batches=missing)
    with pytest.raises(UserError, match="no features"):
        next(search.work())
    assert search.study._trials() == []


def test_workers_may_end_by_themselves() -> None:
    context = multiprocessing.get_context("spawn")
    quick, slow = (context.Process(target=time.sleep, args=(seconds,)) for seconds in (0.1, 600.0))
    quick.start()
    slow.start()
    _end([quick, slow])
    assert quick.exitcode == 0
    assert slow.exitcode and slow.exitcode < 0
