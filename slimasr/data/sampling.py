"""Assign utterances to batches from the seed and the epoch alone; no audio or features are read here."""

from __future__ import annotations

import hashlib
import math
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol, TypeVar

from lhotse import MonoCut
from lhotse.dataset import DynamicBucketingSampler
from lhotse.dataset.sampling.dynamic_bucketing import FixedBucketBatchSizeConstraint, estimate_duration_buckets

from slimasr.config.data import DataConfig
from slimasr.data.turns import Turns

SHORTEST_SECONDS = 0.1
"""Shorter utterances count as this many seconds when evaluation batches are packed; they are padded with silence."""


class Timed(Protocol):
    """Anything with an id and a ``duration`` in seconds: a cut or a `Sample`."""

    @property
    def id(self) -> str: ...

    @property
    def duration(self) -> float: ...


T = TypeVar("T", bound=Timed)
Repeat = Callable[[Sequence[str], str], list["Sample"]]
"""From utterance ids and a name of the repetition to samples at the speeds drawn for it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An utterance as a sample of one epoch: its speed, its duration at that speed in seconds, and its batch key."""

    id: str
    speed: float
    duration: float
    key: str | None = None


@dataclass(frozen=True)
class RankInfo:
    """The rank of this process among all processes of a training run."""

    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True)
class EpochPart:
    """A part of an epoch that was trained before the number of processes or the data changed.

    Attributes:
        world_size: number of processes that trained it.
        done: batches that each of them trained on.
        total: batches that each of them would have had until the end of the epoch.
    """

    world_size: int
    done: int
    total: int


@dataclass(frozen=True)
class Buckets:
    """Batch sizes by duration: a cut belongs to the first bucket whose end is not below its duration."""

    ends: list[float]
    sizes: list[int]

    @classmethod
    def of(cls, samples: Sequence[Sample], config: DataConfig) -> Buckets:
        """Buckets of equal total duration; padded batches have at most ``data.batch_seconds``."""
        num_buckets = min(config.num_buckets, len(samples))
        # lhotse returns only the limits between buckets; the last bucket ends at the longest sample.
        starts = estimate_duration_buckets(samples, num_buckets) if num_buckets > 1 else []
        ends = [*starts, max(item.duration for item in samples)]
        most = len(samples) if config.max_cuts is None else config.max_cuts
        # A fixed size bounds the padded batch; lhotse's time limit would let the last cut exceed it.
        return cls(ends, [max(1, min(most, int(config.batch_seconds / end))) for end in ends])


def speed_of(utterance: str, speeds: Sequence[float], seed: int, epoch: int, again: str = "") -> float:
    """The speed of an utterance in an epoch: drawn uniformly, equal in all processes and after a resume.

    Args:
        again: which repetition within the epoch; empty = the first occurrence.
    """
    if len(speeds) == 1:
        return speeds[0]
    # A digest instead of a random generator: the speed does not depend on the order of utterances.
    digest = hashlib.blake2b(f"{seed}/{epoch}{again}/{utterance}".encode(), digest_size=8).digest()
    return speeds[int.from_bytes(digest, "big") % len(speeds)]


def plan_epoch(
    samples: Sequence[Sample],
    config: DataConfig,
    seed: int,
    epoch: int,
    process: RankInfo = RankInfo(),
    turns: Turns = Turns(),
    repeat: Repeat | None = None,
) -> list[list[Sample]]:
    """All batches of one epoch for one process, in order; all processes get the same number of batches.

    If the samples have keys, each step has batches of a single key, which is the same in all processes.

    Args:
        turns: how samples with different keys take turns.
        repeat: returns the samples of a repetition; None = the same ones.
    """
    groups = group_samples(samples)
    if len(groups) == 1:
        (only,) = groups.values()
        return list(_draw(only, config, seed, epoch, process))
    natural = {key: _count(group, config, process.world_size) for key, group in groups.items()}
    seconds = {key: sum(item.duration * item.speed for item in group) for key, group in groups.items()}
    drawn = f"turns/{seed}/{epoch}{turns.part}"
    counts = turns.counts(natural, seconds, drawn)
    # The groups take turns in random order, each as often as it has steps. The seed has no rank, so all processes draw
    # the same order and have the same key in every step.
    order = [key for key, count in counts.items() for _ in range(count // turns.step_batches)]
    random.Random(drawn).shuffle(order)
    queues = {key: _repeated(group, config, seed, epoch, process, turns.part, repeat) for key, group in groups.items()}
    return [next(queues[key]) for key in order for _ in range(turns.step_batches)]


def untrained(
    samples: Sequence[Sample],
    config: DataConfig,
    seed: int,
    epoch: int,
    parts: Sequence[EpochPart],
    turns: Turns = Turns(),
) -> list[Sample]:
    """The samples of an epoch on which its earlier parts have not trained, if each occurs once.

    The order of an epoch depends on the number of processes, so the batches of all processes are drawn again for every
    part. If the data have changed since, a part stands for the same fraction of the present batches.
    """
    left = list(samples)
    for part in parts:
        # Each part drew its plan from what the parts before it had left, so `left` shrinks from part to part.
        trained: set[str] = set()
        for rank in range(part.world_size):
            plan = plan_epoch(left, config, seed, epoch, RankInfo(rank, part.world_size), turns)
            # This equals `part.done` if the data are unchanged, because the plan then has `part.total` batches.
            done = part.done * len(plan) // max(1, part.total)
            trained.update(item.id for batch in plan[:done] for item in batch)
        left = [item for item in left if item.id not in trained]
    return left


def count_batches(samples: Sequence[Sample], config: DataConfig, world_size: int = 1, turns: Turns = Turns()) -> int:
    """``len(plan_epoch(...))`` without drawing."""
    natural = {key: _count(group, config, world_size) for key, group in group_samples(samples).items()}
    return sum(natural.values()) if len(natural) == 1 else turns.total(natural)


def pack(items: Sequence[T], max_seconds: float, max_cuts: int | None = None) -> list[list[T]]:
    """Pack items, longest first, into batches of at most ``max_seconds`` with padding, or of a single item."""
    batches: list[list[T]] = []
    limit = 0
    for item in sorted(items, key=lambda timed: (-timed.duration, timed.id)):
        if not batches or len(batches[-1]) >= limit:
            batches.append([])
            # The first item of a batch is its longest, so all others are padded to its duration.
            limit = max(1, int(max_seconds / max(item.duration, SHORTEST_SECONDS)))
            if max_cuts is not None:
                limit = min(limit, max_cuts)
        batches[-1].append(item)
    return batches


def group_samples(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Samples by key, sorted by key; without keys, there is one group."""
    groups: dict[str, list[Sample]] = {}
    for item in samples:
        groups.setdefault(item.key or "", []).append(item)
    return {key: groups[key] for key in sorted(groups)}


def _count(samples: Sequence[Sample], config: DataConfig, world_size: int) -> int:
    """The number of batches of one process in which each of these samples occurs once."""
    buckets = Buckets.of(samples, config)
    # bisect_left finds the first bucket whose end is not below the duration, as `Buckets` says.
    filled = Counter(bisect_left(buckets.ends, item.duration) for item in samples)
    # Only the last batch of each bucket is not full.
    batches = sum(math.ceil(count / buckets.sizes[bucket]) for bucket, count in filled.items())
    # All processes take part in the last step, even if it has fewer batches than processes.
    return math.ceil(batches / world_size)


def _repeated(
    samples: list[Sample],
    config: DataConfig,
    seed: int,
    epoch: int,
    process: RankInfo,
    part: str,
    repeat: Repeat | None,
) -> Iterator[list[Sample]]:
    """Batches of one group without end: all samples once, then again in another order and at other speeds."""
    names = [item.id for item in samples]
    for number in count():
        # The samples are those of the first occurrence in the epoch.
        again = f"{part}+{number}" if number else part
        drawn = repeat(names, again) if repeat is not None and again else samples
        yield from _draw(drawn, config, seed, epoch, process, again)


def _draw(
    samples: list[Sample], config: DataConfig, seed: int, epoch: int, process: RankInfo, again: str = ""
) -> Iterator[list[Sample]]:
    """Run lhotse's sampler over substitutes for the cuts, which hold only what it reads and an index of ``samples``.

    Args:
        again: which repetition within the epoch; empty = the first occurrence.
    """
    buckets = Buckets.of(samples, config)
    stand_ins = [
        MonoCut(item.id, 0.0, item.duration, 0, custom={"number": number}) for number, item in enumerate(samples)
    ]
    # The sampler shuffles within its buffer only: a large corpus needs this too.
    random.Random(f"order/{seed}/{epoch}{again}").shuffle(stand_ins)
    sampler = DynamicBucketingSampler(
        stand_ins,
        constraint=FixedBucketBatchSizeConstraint(max_seq_len_buckets=buckets.ends, batch_sizes=buckets.sizes),
        # Here lhotse expects the limits between buckets, without the end of the last one.
        duration_bins=buckets.ends[:-1],
        shuffle=True,
        # Given explicitly, because lhotse would otherwise look for torch's process group.
        rank=process.rank,
        world_size=process.world_size,
        seed=random.Random(f"{seed}{again}").getrandbits(32) if again else seed,
    )
    sampler.set_epoch(epoch)
    for batch in sampler:
        yield [samples[cut.custom["number"]] for cut in batch]
