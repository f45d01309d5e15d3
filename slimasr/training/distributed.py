"""One or several processes: everything the trainer needs from ``torchrun`` in one object.

Gradients are reduced once per step, after all backward passes, in one flat buffer. A wrapper that reduces during the
backward pass would do so once per subnet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from slimasr.errors import UserError
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
        """Sum of one number over all processes."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return float(total)

    def sum_by_key(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums over all processes, key by key; processes may have different keys."""
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


@contextmanager
def process_group() -> Iterator[World]:
    """Join the processes that ``torchrun`` started; a single process without it. Uses NCCL on GPUs, else gloo."""
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
    """`slimasr.locking.folder_lock`, acquired by the main process for all; the other processes get None.

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
        refusal = world.gather(refusal)[0]
        if refusal is not None:
            raise UserError(refusal)
        yield lock


def reduce_gradients(parameters: Sequence[nn.Parameter], failures: int, world: World) -> int:
    """Sum the gradients of all processes, and the numbers of their failed losses, in one all-reduce.

    A parameter that no process used keeps ``grad`` None; one that any process used gets a gradient on all processes.
    """
    if world.size == 1:
        return failures
    flags = [float(failures), *(float(p.grad is not None) for p in parameters)]
    pieces = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters]
    flat = torch.cat([torch.tensor(flags, device=world.device), *pieces])
    dist.all_reduce(flat)
    counts, *sums = flat.split([len(flags), *(p.numel() for p in parameters)])
    failed, *used = counts.tolist()
    for parameter, users, total in zip(parameters, used, sums, strict=True):
        parameter.grad = total.view_as(parameter).clone() if users else None
    return int(failed)
