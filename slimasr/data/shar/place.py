"""The position of a run in its stream of shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Place:
    """A position between two batches, as plain values, which every checkpoint of a run on shards stores.

    Attributes:
        starts: for each pool of shards (`slimasr.data.shar.order`), the number of its shards in the blocks that have
            been read, over all passes.
        batch: batches that each process has taken from the block after these.
        readers: processes that read shards, over all training processes, when this block was divided among them.
    """

    starts: tuple[int, ...]
    batch: int = 0
    readers: int = 1

    @classmethod
    def of(cls, content: Mapping[str, Any] | None) -> Place | None:
        """Inverse of ``asdict``; None stays None."""
        return None if content is None else cls(tuple(content["starts"]), content["batch"], content["readers"])
