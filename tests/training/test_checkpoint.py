"""Checkpoints that a full disk, a kill or a cut file cannot spoil."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from slimasr.errors import UserError
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.files import replacing
from slimasr.training.checkpoint import (
    RunState,
    list_checkpoints,
    newest_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)


def save(folder: Path, epoch: int, batch: int = 0, step: int = 0) -> Path:
    path = folder / RunState(epoch=epoch, batch=batch, step=step).checkpoint_name
    save_checkpoint(path, {"model": {"w": torch.full((1000,), float(10 * epoch + batch))}})
    return path


def test_order_is_that_of_the_run(tmp_path: Path) -> None:
    made = [save(tmp_path, 0, 5, 5), save(tmp_path, 0, 20, 1000), save(tmp_path, 1), save(tmp_path, 1, 3, 1003)]
    made += [save(tmp_path, 9), save(tmp_path, 10)]
    save_checkpoint(tmp_path / "best.pt", {"model": {}})
    assert list_checkpoints(tmp_path) == made
    prune_checkpoints(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "epoch-009.pt", "epoch-010.pt"]


def write_and_die(path: Path) -> None:
    """Begin a file, and end as ``kill -9`` does."""
    with replacing(path) as temporary:
        temporary.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_checkpoint_whose_writing_was_killed_is_none_and_goes_with_the_next(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=write_and_die, args=(tmp_path / "epoch-001.pt",))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and len(list(tmp_path.iterdir())) == 1
    assert list_checkpoints(tmp_path) == []
    kept = [save(tmp_path, 1), save(tmp_path, 2)]
    prune_checkpoints(tmp_path, keep=2)
    assert sorted(tmp_path.iterdir()) == kept


@pytest.mark.parametrize("left", [0, 1, 100, 0.5, -1])
def test_a_truncated_newest_is_reported_and_the_one_before_used(tmp_path: Path, left: float) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    content = newest.read_bytes()
    newest.write_bytes(content[: int(left * len(content)) if 0 < left < 1 else int(left)])
    said: list[str] = []
    saved = newest_checkpoint(tmp_path, said.append)
    assert saved is not None
    assert saved["model"]["w"][0] == 10.0
    assert "epoch-002.pt: damaged checkpoint" in said[0]
    assert said[-1] == "going on from epoch-001.pt"


def test_only_damaged_ones_is_an_error(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path, print) is None
    save(tmp_path, 1).write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="every checkpoint is damaged"):
        newest_checkpoint(tmp_path, print)


def test_code_in_a_checkpoint_is_refused(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("executed",)

    torch.save({"model": Payload()}, tmp_path / "epoch-001.pt")
    with pytest.raises(UserError, match="damaged checkpoint"):
        load_checkpoint(tmp_path / "epoch-001.pt")


def test_a_full_disk_is_one_line_and_keeps_what_was(tmp_path: Path) -> None:
    """The kernel refuses to let the file grow, in the middle of writing it."""
    path = save(tmp_path, 1)
    before = path.read_bytes()
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=save_with_little_room, args=(path, answers))
    process.start()
    process.join(60)
    assert answers.get() == f"{path}: cannot be written (File too large); what was there before is kept"
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path], "no temporary file is left"


def save_with_little_room(path: Path, answers: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    try:
        save_checkpoint(path, {"model": {"w": torch.ones(100_000)}})
    except UserError as error:
        answers.put(str(error))
    else:
        answers.put("written")
