"""One or several processes: everything that the trainer needs from ``torchrun`` is in one object, `World`.

Gradients are reduced once per step, after all backward passes, in one flat buffer. A wrapper that reduces during the
backward pass would do so once per subnet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from slimasr.errors import UserError
from slimasr.experiment.folder import LOCK_FILE
from slimasr.locking import Lock, folder_lock

CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    """This process among all of the run's."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def sum(self, value: float) -> float:
        """Sum one number over all processes."""
        if self.size == 1:
            return value
        # float64 counts tokens exactly up to 2^53; float32 only up to 2^24.
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return float(total)

    def sum_by_key(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sum over all processes, key by key; processes may have different keys."""
        total: dict[str, float] = {}
        for part in self.gather(dict(values)):
            for key, value in part.items():
                total[key] = total.get(key, 0.0) + value
        return total

    def gather(self, value: Any) -> list[Any]:
        """Gather one plain value from every process, in rank order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()


ALONE = World()
"""The only process of a run."""


@contextmanager
def process_group() -> Iterator[World]:
    """Join the processes that ``torchrun`` started, over NCCL on GPUs, else gloo; without it, there is one process."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(device=device)
        return
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()


@contextmanager
def locked_by_main(path: Path, purpose: str, advice: str, world: World) -> Iterator[Lock | None]:
    """Acquire `slimasr.locking.folder_lock` in the main process for all; the other processes get None.

    Raises:
        UserError: the main process cannot acquire the lock; all processes raise it.
    """
    with ExitStack() as stack:
        lock: Lock | None = None
        refusal: str | None = None
        if world.is_main:
            try:
                lock = stack.enter_context(folder_lock(path, purpose, advice=advice))
            except UserError as error:
                refusal = str(error)
        # The others must fail too: they would wait for the main process in their first collective operation.
        refusal = world.gather(refusal)[0]
        if refusal is not None:
            raise UserError(refusal)
        yield lock


def lock_experiment(exp: Path, world: World) -> AbstractContextManager[Lock | None]:
    """Keep other trainings out of the folder; as `locked_by_main`."""
    return locked_by_main(exp / LOCK_FILE, "slimasr-train", "wait until it has ended, or choose another --exp", world)


def reduce_gradients(parameters: Sequence[nn.Parameter], failures: int, world: World) -> int:
    """Sum the gradients of all processes, and the numbers of their failed losses, in one all-reduce.

    A parameter that no process used keeps ``grad`` None; one that any process used gets a gradient on all processes.
    """
    if world.size == 1:
        return failures
    # The buffer holds the failures, one flag per parameter (1 if this process used it), and all gradients.
    flags = [float(failures), *(float(p.grad is not None) for p in parameters)]
    pieces = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters]
    flat = torch.cat([torch.tensor(flags).to(world.device, non_blocking=True), *pieces])
    dist.all_reduce(flat)
    counts, *sums = flat.split([len(flags), *(p.numel() for p in parameters)])
    failed, *used = counts.tolist()
    # A summed flag is the number of processes that used the parameter. The clone frees the flat buffer.
    for parameter, users, total in zip(parameters, used, sums, strict=True):
        parameter.grad = total.view_as(parameter).clone() if users else None
    return int(failed)
