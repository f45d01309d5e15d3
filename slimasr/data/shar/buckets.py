"""Batches of utterances of similar duration, drawn by lhotse's sampler from what one reader reads of a block."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lhotse import CutSet, MonoCut
from lhotse.cut import Cut
from lhotse.dataset import DynamicBucketingSampler
from lhotse.dataset.sampling.dynamic_bucketing import FixedBucketBatchSizeConstraint, estimate_duration_buckets

from slimasr.config.data import DataConfig

SPEED = "train_speed"
"""Key of ``cut.custom`` with the speed at which a cut is trained; its audio is changed when its batch is made."""
# Durations in manifests are rounded.
_ROUNDING = 0.01


@dataclass(frozen=True)
class DurationBuckets:
    """Batch sizes by duration: a cut belongs to the first bucket whose end is not below its duration in seconds."""

    ends: tuple[float, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, durations: Sequence[float], config: DataConfig) -> DurationBuckets:
        """Buckets of equal total duration in a sample, and one for what is longer than all of the sample.

        Padded batches have at most ``data.batch_seconds``.
        """
        number = min(config.num_buckets, len(durations))
        timed = [MonoCut(str(index), 0.0, seconds, 0) for index, seconds in enumerate(durations)]
        ends = estimate_duration_buckets(timed, number) if number > 1 else []
        # lhotse returns only the limits between buckets.
        ends = sorted({*ends, max(durations) + _ROUNDING, config.max_cut_seconds + _ROUNDING})
        most = config.max_cuts or config.shar.buffer_cuts
        return cls(tuple(ends), tuple(max(1, min(most, int(config.batch_seconds / end))) for end in ends))


@dataclass
class SpeedConstraint(FixedBucketBatchSizeConstraint):
    """Batch sizes by the durations that cuts have at their training speeds."""

    def measure_length(self, example: Cut) -> float:
        """The duration in seconds at the training speed."""
        return float(example.duration / speed_of_cut(example))


def speed_of_cut(cut: Cut) -> float:
    """The speed at which a cut is trained, relative to that at which it is stored."""
    return float(cut.custom[SPEED])


def sample_batches(
    sources: Sequence[CutSet], buckets: DurationBuckets, buffer_cuts: int, seed: str
) -> Iterator[CutSet]:
    """Mix the cuts of several sources, and yield batches of similar duration until all have occurred once.

    Args:
        sources: one for each shard; each cut has a `SPEED`.
        buffer_cuts: number of cuts from which batches are drawn.
        seed: determines mixture and batches.
    """
    rng = random.Random(seed)
    mixed = CutSet.mux(*sources, seed=rng.getrandbits(32)) if len(sources) > 1 else sources[0]
    sampler = DynamicBucketingSampler(
        mixed,
        constraint=SpeedConstraint(max_seq_len_buckets=list(buckets.ends), batch_sizes=list(buckets.sizes)),
        # Here lhotse expects the limits between buckets, without the end of the last one.
        duration_bins=list(buckets.ends[:-1]),
        shuffle=True,
        buffer_size=buffer_cuts,
        # Shards have been divided among processes; lhotse would otherwise look for torch's process group.
        rank=0,
        world_size=1,
        seed=rng.getrandbits(32),
    )
    yield from sampler
