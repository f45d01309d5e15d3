"""Which cuts make which batch, from seed and epoch alone: no audio or feature is read here."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset import DynamicBucketingSampler, DynamicCutSampler
from lhotse.dataset.sampling.base import CutSampler

from slimasr.config.schema import DataConfig
from slimasr.errors import UserError


@dataclass(frozen=True)
class Place:
    """This process among all that train together."""

    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True)
class PlannedBatch:
    """Cuts of one batch, and the value of the batch key they share."""

    cuts: CutSet
    key: str | None = None


def speed_of(cut_id: str, speeds: Sequence[float], seed: int, epoch: int) -> float:
    """An utterance's speed in an epoch: uniform, equal in all processes and after a resume."""
    if len(speeds) == 1:
        return speeds[0]
    digest = hashlib.blake2b(f"{seed}/{epoch}/{cut_id}".encode(), digest_size=8).digest()
    return speeds[int.from_bytes(digest, "big") % len(speeds)]


def plan_epoch(
    cuts: Sequence[Cut],
    config: DataConfig,
    seed: int,
    epoch: int,
    place: Place = Place(),
    key: str | None = None,
) -> list[PlannedBatch]:
    """All batches of one epoch for one process, in order; every process gets equally many.

    With a batch key, each batch holds cuts of one value of it, the same one in all processes in a step.

    Args:
      key: field of the cuts' supervisions, e.g. ``speaker``.
    """
    planned = [
        [PlannedBatch(batch, value) for batch in _sampler(group, config, seed, epoch, place)]
        for value, group in _group(cuts, key)
    ]
    if len(planned) == 1:
        return planned[0]
    turns = [number for number, batches in enumerate(planned) for _ in batches]
    random.Random(f"turns/{seed}/{epoch}").shuffle(turns)
    queues = [iter(batches) for batches in planned]
    return [next(queues[number]) for number in turns]


def pack(cuts: Sequence[Cut], max_seconds: float, max_cuts: int | None = None) -> list[CutSet]:
    """Pack cuts, longest first, into batches of at most ``max_seconds`` with padding, or of one cut."""
    batches: list[list[Cut]] = []
    limit = 0
    for cut in sorted(cuts, key=lambda item: (-item.duration, item.id)):
        if not batches or len(batches[-1]) >= limit:
            batches.append([])
            limit = max(1, int(max_seconds / cut.duration))
            limit = min(limit, max_cuts) if max_cuts is not None else limit
        batches[-1].append(cut)
    return [CutSet.from_cuts(batch) for batch in batches]


def key_value(cut: Cut, key: str) -> str:
    """The batch key's value: a supervision field or custom entry.

    Raises:
      UserError: the utterance has none.
    """
    supervision = cut.supervisions[0]
    value = (
        getattr(supervision, key, None) if hasattr(supervision, key) else (supervision.custom or {}).get(key)
    )
    if value is None:
        raise UserError(f"{cut.id}: has no {key!r}, by which this method groups its batches")
    return str(value)


def _group(cuts: Sequence[Cut], key: str | None) -> list[tuple[str | None, list[Cut]]]:
    if key is None:
        return [(None, list(cuts))]
    groups: dict[str, list[Cut]] = {}
    for cut in cuts:
        groups.setdefault(key_value(cut, key), []).append(cut)
    return [(value, groups[value]) for value in sorted(groups)]


def _sampler(cuts: list[Cut], config: DataConfig, seed: int, epoch: int, place: Place) -> CutSampler:
    # The sampler shuffles within its buffer only: a large corpus needs this too.
    order = list(cuts)
    random.Random(f"order/{seed}/{epoch}").shuffle(order)
    num_buckets = min(config.num_buckets, len(order))
    if num_buckets == 1:
        sampler: CutSampler = DynamicCutSampler(
            order,
            max_duration=config.batch_seconds,
            max_cuts=config.max_cuts,
            rank=place.rank,
            world_size=place.world_size,
        )
    else:
        sampler = DynamicBucketingSampler(
            order,
            max_duration=config.batch_seconds,
            max_cuts=config.max_cuts,
            num_buckets=num_buckets,
            shuffle=True,
            rank=place.rank,
            world_size=place.world_size,
            seed=seed,
        )
    sampler.set_epoch(epoch)
    return sampler
