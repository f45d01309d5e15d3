"""What the trainer asks of a source of batches; `slimasr.data.dataloading.BatchSource` is the recipe's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from slimasr.data.batch import Batch


class Batches(Protocol):
    """All follows from seed, epoch and process; every process gets equally many training batches."""

    def num_train_batches(self, epoch: int) -> int:
        """Batches of an epoch (counted from 1) per process."""

    def train_batches(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The epoch's batches after the first ``skip``."""

    def eval_batches(self, set_name: str, max_seconds: float) -> Iterator[Batch]:
        """A whole set, equal on all processes."""

    def worst_batches(self) -> list[Batch]:
        """The largest batches that training will meet."""
