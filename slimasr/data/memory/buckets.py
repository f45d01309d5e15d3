"""Groups of utterances of similar duration, from one of which each training batch is drawn by lhotse's sampler."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from lhotse.dataset import DynamicBucketingSampler
from lhotse.dataset.sampling.dynamic_bucketing import FixedBucketBatchSizeConstraint

from slimasr.config.data import DataConfig


@dataclass(frozen=True)
class Buckets:
    """Batch sizes by duration: an utterance belongs to the first bucket whose end is not below its duration."""

    ends: list[float]
    sizes: list[int]

    @classmethod
    def of(cls, durations: np.ndarray, config: DataConfig) -> Buckets:
        """Buckets of equal total duration; padded batches have at most ``data.batch_seconds``.

        Args:
            durations: (N,) float64 seconds, N > 0.
        """
        num_buckets = min(config.num_buckets, len(durations))
        # These are only the limits between buckets; the last bucket ends at the longest utterance.
        ends = [*limits_between(durations, num_buckets), float(durations.max())]
        most = len(durations) if config.max_cuts is None else config.max_cuts
        # A fixed size bounds the padded batch; lhotse's time limit would let the last cut exceed it.
        return cls(ends, [max(1, min(most, int(config.batch_seconds / end))) for end in ends])

    def place(self, durations: np.ndarray) -> np.ndarray:
        """(N,) index of the bucket of each of these durations."""
        return np.searchsorted(self.ends, durations, side="left")


def limits_between(durations: np.ndarray, num_buckets: int) -> list[float]:
    """Durations at which the next of ``num_buckets`` buckets begins, so that all have the same total duration.

    These are the values of lhotse's `estimate_duration_buckets`, without its loop over all utterances.
    """
    if num_buckets == 1:
        return []
    ordered = np.sort(durations)
    share = ordered.sum() / num_buckets
    limits = []
    start = 0
    while start < len(ordered):
        # Element by element as in lhotse, so that rounding is the same.
        totals = np.cumsum(ordered[start:])
        full = int(np.searchsorted(totals, share, side="right"))
        # The bucket is left after the utterance that made it exceed its share.
        start += full + 1
        if start < len(ordered):
            limits.append(float(ordered[start]))
    return limits


class _Placed:
    """What lhotse's sampler reads of a cut, and the place of the utterance among those that are drawn."""

    __slots__ = ("bucket", "dataloading_info", "duration", "id", "place")

    def __init__(self, place: int, bucket: int, duration: float) -> None:
        self.id = place
        self.place = place
        self.bucket = bucket
        self.duration = duration

    def with_id(self, id_: Any) -> _Placed:
        """A copy; the sampler asks for it where a batch repeats an utterance."""
        return _Placed(self.place, self.bucket, self.duration)


class _KnownBuckets(FixedBucketBatchSizeConstraint):
    """lhotse's constraint for items that know their buckets, instead of a search for each of them at each use."""

    def __post_init__(self) -> None:
        """Nothing is checked, because the constraint is copied for each batch."""

    def add(self, example: Any) -> None:
        """Count an item of a bucket."""
        self.current_bucket = example.bucket
        self.num_cuts += 1

    def select_bucket(self, buckets: Any, example: Any = None, example_len: Any = None) -> int:
        """The bucket of an item."""
        bucket: int = example.bucket
        return bucket

    def copy(self) -> _KnownBuckets:
        """An empty constraint of the same sizes."""
        return _KnownBuckets(self.max_seq_len_buckets, self.batch_sizes)


@dataclass(frozen=True)
class Draw:
    """What a sampler's order depends on.

    Attributes:
        order: seed of the order in which the sampler meets the utterances.
        seed: seed of the sampler.
        epoch: number of the epoch.
        rank: number of this process.
        world_size: number of processes.
    """

    order: str
    seed: int
    epoch: int
    rank: int
    world_size: int


def draw_batches(durations: np.ndarray, config: DataConfig, draw: Draw) -> Iterator[list[int]]:
    """Run lhotse's sampler over utterances of these durations, and yield the places of those of each batch."""
    buckets = Buckets.of(durations, config)
    places = buckets.place(durations)
    items = [_Placed(*row) for row in zip(range(len(durations)), places.tolist(), durations.tolist(), strict=True)]
    # The sampler shuffles within its buffer only: a large corpus needs this too.
    random.Random(draw.order).shuffle(items)
    sampler = DynamicBucketingSampler(
        items,
        constraint=_KnownBuckets(max_seq_len_buckets=buckets.ends, batch_sizes=buckets.sizes),
        # Here lhotse expects the limits between buckets, without the end of the last one.
        duration_bins=buckets.ends[:-1],
        shuffle=True,
        # Given explicitly, because lhotse would otherwise look for torch's process group.
        rank=draw.rank,
        world_size=draw.world_size,
        seed=draw.seed,
    )
    sampler.set_epoch(draw.epoch)
    for batch in sampler:
        yield [item.place for item in batch]
