"""Assign utterances to batches from the seed and the epoch alone; no audio or features are read here."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol, TypeVar

import numpy as np

from slimasr.config.data import DataConfig
from slimasr.data.memory.buckets import Buckets, Draw, draw_batches
from slimasr.data.memory.samples import Sample, Samples, group_samples
from slimasr.data.memory.turns import Turns

SHORTEST_SECONDS = 0.1
"""Shorter utterances count as this many seconds when evaluation batches are packed; they are padded with silence."""


class Timed(Protocol):
    """Anything with an id and a ``duration`` in seconds: a cut or a `Sample`."""

    @property
    def id(self) -> str: ...

    @property
    def duration(self) -> float: ...


T = TypeVar("T", bound=Timed)
Repeat = Callable[[Samples, str], Sequence[Sample]]
"""From samples and a name of the repetition to the same utterances at the speeds drawn for it."""


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


def speeds_of(utterances: Iterable[str], speeds: Sequence[float], seed: int, epoch: int, again: str = "") -> np.ndarray:
    """(N,) float64, `speed_of` of each of these utterances."""
    if len(speeds) == 1:
        return np.full(sum(1 for _ in utterances), speeds[0], dtype=np.float64)
    # The digest of what all names follow is begun once.
    begun = hashlib.blake2b(f"{seed}/{epoch}{again}/".encode(), digest_size=8)
    digests = bytearray()
    for name in utterances:
        state = begun.copy()
        state.update(name.encode())
        digests += state.digest()
    drawn = np.frombuffer(digests, dtype=">u8") % len(speeds)
    return np.asarray(speeds, dtype=np.float64)[drawn.astype(np.intp)]


def plan_epoch(
    samples: Sequence[Sample],
    config: DataConfig,
    seed: int,
    epoch: int,
    process: RankInfo = RankInfo(),
    turns: Turns = Turns(),
    repeat: Repeat | None = None,
) -> list[Samples]:
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
    # Python's sum, because numpy adds in another order and rounds differently.
    seconds = {key: sum((group.durations * group.speeds).tolist()) for key, group in groups.items()}
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
) -> Samples:
    """The samples of an epoch on which its earlier parts have not trained, if each occurs once.

    The order of an epoch depends on the number of processes, so the batches of all processes are drawn again for every
    part. If the data have changed since, a part stands for the same fraction of the present batches.
    """
    left = Samples.of(samples)
    for part in parts:
        # Each part drew its plan from what the parts before it had left, so `left` shrinks from part to part.
        trained = np.zeros(len(left.names), dtype=bool)
        for rank in range(part.world_size):
            plan = plan_epoch(left, config, seed, epoch, RankInfo(rank, part.world_size), turns)
            # This equals `part.done` if the data are unchanged, because the plan then has `part.total` batches.
            done = part.done * len(plan) // max(1, part.total)
            for batch in plan[:done]:
                trained[batch.rows] = True
        left = left.take(np.flatnonzero(~trained[left.rows]))
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


def _count(samples: Samples, config: DataConfig, world_size: int) -> int:
    """The number of batches of one process in which each of these samples occurs once."""
    ordered = np.sort(samples.durations)
    buckets = Buckets.of(ordered, config)
    # A bucket holds what is at most as long as its end and longer than the end before it.
    filled = np.diff(np.searchsorted(ordered, buckets.ends, side="right"), prepend=0).tolist()
    # Only the last batch of each bucket is not full.
    batches = sum(math.ceil(count / size) for count, size in zip(filled, buckets.sizes, strict=True))
    # All processes take part in the last step, even if it has fewer batches than processes.
    return math.ceil(batches / world_size)


def _repeated(
    samples: Samples,
    config: DataConfig,
    seed: int,
    epoch: int,
    process: RankInfo,
    part: str,
    repeat: Repeat | None,
) -> Iterator[Samples]:
    """Batches of one group without end: all samples once, then again in another order and at other speeds."""
    for number in count():
        # The samples are those of the first occurrence in the epoch.
        again = f"{part}+{number}" if number else part
        drawn = repeat(samples, again) if repeat is not None and again else samples
        yield from _draw(Samples.of(drawn), config, seed, epoch, process, again)


def _draw(
    samples: Samples, config: DataConfig, seed: int, epoch: int, process: RankInfo, again: str = ""
) -> Iterator[Samples]:
    """Batches in which each sample occurs once.

    Args:
        again: which repetition within the epoch; empty = the first occurrence.
    """
    own_seed = random.Random(f"{seed}{again}").getrandbits(32) if again else seed
    draw = Draw(f"order/{seed}/{epoch}{again}", own_seed, epoch, process.rank, process.world_size)
    return map(samples.take, draw_batches(samples.durations, config, draw))
