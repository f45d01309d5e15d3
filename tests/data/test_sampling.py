"""Batches of an epoch: a function of seed, epoch and rank; limits kept; nothing lost; counted without drawing."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import chain
from typing import Any

import pytest

from slimasr.config.data import DataConfig
from slimasr.data.memory.samples import Sample
from slimasr.data.memory.sampling import EpochPart, RankInfo, count_batches, pack, plan_epoch, speed_of, untrained
from tests.data.corpus import config

SPEEDS = (0.9, 1.0, 1.1)


def _samples(count: int, speakers: int = 0) -> list[Sample]:
    """``count`` utterances of 0.5 to 6 s; keyed by speaker where there are any."""
    rng = random.Random(0)
    return [
        Sample(f"u{number}", 1.0, rng.uniform(0.5, 6.0), f"s{number % speakers}" if speakers else None)
        for number in range(count)
    ]


def _data(**changes: Any) -> DataConfig:
    return config(**{"batch_seconds": 20.0, "max_cuts": None, **changes}).data


SETTINGS = [
    _data(),
    _data(max_cuts=3),
    _data(num_buckets=1),
    _data(num_buckets=30),
    _data(batch_seconds=7.0),
    _data(batch_seconds=1.0),
]


@pytest.mark.parametrize("data", SETTINGS)
def test_an_epoch_holds_every_utterance_once_within_the_limits(data: DataConfig) -> None:
    samples = _samples(200)
    plan = plan_epoch(samples, data, seed=1, epoch=1)
    assert sorted(chain.from_iterable(plan), key=str) == sorted(samples, key=str)
    for batch in plan:
        assert len(batch) == 1 or len(batch) * max(item.duration for item in batch) <= data.batch_seconds
        assert data.max_cuts is None or len(batch) <= data.max_cuts


@pytest.mark.parametrize("data", SETTINGS)
@pytest.mark.parametrize("speakers", [0, 3])
def test_batches_are_counted_without_drawing_them(data: DataConfig, speakers: int) -> None:
    for count in (1, 2, 17, 150):
        for world_size in (1, 2, 3):
            samples = _samples(count, speakers)
            plan = plan_epoch(samples, data, 1, 1, RankInfo(0, world_size))
            assert count_batches(samples, data, world_size) == len(plan)


def test_a_plan_follows_from_seed_and_epoch() -> None:
    for data in (_data(), _data(num_buckets=1)):
        plan = plan_epoch(_samples(100), data, 1, 1)
        assert plan == plan_epoch(_samples(100), data, 1, 1)
        assert plan != plan_epoch(_samples(100), data, 1, 2)
        assert plan != plan_epoch(_samples(100), data, 2, 1)


def test_batches_hold_utterances_of_like_length() -> None:
    plan = plan_epoch(_samples(400), _data(num_buckets=10), 1, 1)
    real = sum(item.duration for batch in plan for item in batch)
    padded = sum(len(batch) * max(item.duration for item in batch) for batch in plan)
    assert 1 - real / padded < 0.12


@pytest.mark.parametrize("count", [7, 50, 101])
@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("speakers", [0, 4])
def test_ranks_get_equally_many_batches_and_share_an_epoch(count: int, world_size: int, speakers: int) -> None:
    samples = _samples(count, speakers)
    plans = [plan_epoch(samples, _data(), 1, 1, RankInfo(rank, world_size)) for rank in range(world_size)]
    assert len({len(plan) for plan in plans}) == 1
    heard = Counter(item.id for plan in plans for batch in plan for item in batch)
    assert set(heard) == {item.id for item in samples}
    # A last round with fewer utterances than ranks repeats some, at most once per value of the key.
    assert sum(heard.values()) - count <= (world_size - 1) * max(1, speakers)


@pytest.mark.parametrize("worlds", [(2, 1), (1, 2), (3, 2), (2, 1, 3), (4, 3, 2, 1)])
@pytest.mark.parametrize("speakers", [0, 4])
@pytest.mark.parametrize("data", [_data(), _data(max_cuts=3), _data(num_buckets=1)])
def test_an_epoch_is_shared_out_whenever_the_number_of_processes_changes(
    worlds: tuple[int, ...], speakers: int, data: DataConfig
) -> None:
    """Every world trains a third of what the ones before have left, the last one all of it: each utterance once."""
    samples = _samples(150, speakers)
    parts: list[EpochPart] = []
    trained: Counter[str] = Counter()
    for world_size in worlds:
        left = untrained(samples, data, 1, 1, parts)
        plans = [plan_epoch(left, data, 1, 1, RankInfo(rank, world_size)) for rank in range(world_size)]
        last = len(parts) == len(worlds) - 1
        done = len(plans[0]) if last else len(plans[0]) // 3
        assert done > 0
        trained.update(item.id for plan in plans for batch in plan[:done] for item in batch)
        parts.append(EpochPart(world_size, done, len(plans[0])))
    assert set(trained) == {item.id for item in samples}
    repeated = sum(trained.values()) - len(samples)
    assert repeated <= (worlds[-1] - 1) * max(1, speakers), "as at the end of any epoch"
    assert untrained(samples, data, 1, 1, parts) == []


def test_the_order_of_an_epoch_depends_on_the_number_of_processes() -> None:
    """Why a part is drawn again as it was: a number of batches to skip, converted, would lose utterances."""
    samples = _samples(200)
    alone = {item.id for batch in plan_epoch(samples, _data(), 1, 1)[:20] for item in batch}
    plans = [plan_epoch(samples, _data(), 1, 1, RankInfo(rank, 2)) for rank in range(2)]
    assert alone != {item.id for plan in plans for batch in plan[:10] for item in batch}


def test_on_other_data_a_part_is_the_same_fraction() -> None:
    data = _data(num_buckets=1, max_cuts=2, batch_seconds=100.0)
    for count, left in ((100, 60), (300, 180), (20, 12)):
        assert len(untrained(_samples(count), data, 1, 1, [EpochPart(1, 20, 50)])) == left
        assert len(untrained(_samples(count), data, 1, 1, [EpochPart(1, 20, 50), EpochPart(1, 15, 30)])) == left // 2
    assert untrained(_samples(9), data, 1, 1, [EpochPart(1, 50, 50)]) == []
    assert untrained(_samples(9), data, 1, 1, [EpochPart(2, 0, 50)]) == _samples(9)


def test_fewer_utterances_than_ranks_still_give_every_rank_a_batch() -> None:
    plans = [plan_epoch(_samples(2), _data(), 1, 1, RankInfo(rank, 3)) for rank in range(3)]
    assert [[len(batch) for batch in plan] for plan in plans] == [[1], [1], [1]]


def test_keyed_batches_are_of_one_value_the_same_on_all_ranks() -> None:
    plans = [plan_epoch(_samples(120, speakers=3), _data(), 1, 1, RankInfo(rank, 2)) for rank in range(2)]
    keys = [[{item.key for item in batch} for batch in plan] for plan in plans]
    assert all(len(values) == 1 for values in keys[0])
    assert keys[0] == keys[1]
    order = [values.pop() for values in keys[0]]
    assert set(order) == {"s0", "s1", "s2"}
    assert order != sorted(order, key=str), "values take turns"


def test_speeds_are_uniform_and_independent_between_epochs() -> None:
    names = [f"utterance-{number}" for number in range(3000)]
    first, second = ([speed_of(name, SPEEDS, 42, epoch) for name in names] for epoch in (1, 2))
    assert first == [speed_of(name, SPEEDS, 42, 1) for name in names]
    assert first != [speed_of(name, SPEEDS, 43, 1) for name in names]
    # Five standard deviations around the mean of a fair draw.
    for counts, cells in ((Counter(first), 3), (Counter(zip(first, second, strict=True)), 9)):
        expected = len(names) / cells
        margin = 5 * math.sqrt(expected * (1 - 1 / cells))
        assert len(counts) == cells
        assert all(abs(count - expected) < margin for count in counts.values())
    assert speed_of("any", (1.1,), 42, 1) == 1.1


def test_packing_is_longest_first_and_keeps_the_limit() -> None:
    samples = _samples(100)
    durations = [[item.duration for item in batch] for batch in pack(samples, 15.0, max_cuts=6)]
    assert list(chain.from_iterable(durations)) == sorted((item.duration for item in samples), reverse=True)
    assert all(len(batch) <= 6 and len(batch) * batch[0] <= 15.0 for batch in durations)
    assert [len(batch) for batch in pack(samples[:3], 0.1)] == [1, 1, 1], "longer than the limit: alone"
