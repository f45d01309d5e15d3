"""Shares of languages in an epoch: whole steps of one language, small ones repeat, the number of batches stays."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import pytest

from slimasr.config.data import DataConfig
from slimasr.data.memory.samples import Sample, Samples
from slimasr.data.memory.sampling import EpochPart, RankInfo, count_batches, plan_epoch, speed_of, untrained
from slimasr.data.memory.turns import Turns, apportion, shares_of
from tests.data.corpus import config

SIZES = {"en": 160, "fr": 70, "it": 12}
SPEEDS = (0.9, 1.0, 1.1)
DATA: DataConfig = config(batch_seconds=20.0, max_cuts=None).data
NAMES = [f"{language}{n}" for language, size in SIZES.items() for n in range(size)]
SECONDS = {name: random.Random(name).uniform(0.5, 6.0) for name in NAMES}


def samples(names: Sequence[str] | None = None, again: str = "", epoch: int = 1) -> list[Sample]:
    """Utterances of three languages at the speeds of an epoch."""
    names = names or NAMES
    speeds = [speed_of(name, SPEEDS, 1, epoch, again) for name in names]
    return [Sample(name, speed, SECONDS[name] / speed, name[:2]) for name, speed in zip(names, speeds, strict=True)]


def plan(turns: Turns, rank: int = 0, world_size: int = 1, epoch: int = 1) -> list[Samples]:
    def repeat(first: Sequence[Sample], again: str) -> list[Sample]:
        return samples([item.id for item in first], again, epoch)

    return plan_epoch(samples(epoch=epoch), DATA, 1, epoch, RankInfo(rank, world_size), turns, repeat)


def languages(batches: list[Samples]) -> list[str]:
    """The language of each batch, which has only one."""
    found = [{item.key for item in batch} for batch in batches]
    assert all(len(keys) == 1 for keys in found)
    return [str(keys.pop()) for keys in found]


@pytest.mark.parametrize("step_batches", [1, 3])
@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("power", [None, 0.0, 0.5, 1.0])
def test_every_step_has_one_language_on_all_ranks(power: float | None, world_size: int, step_batches: int) -> None:
    turns = Turns(step_batches, power)
    plans = [languages(plan(turns, rank, world_size)) for rank in range(world_size)]
    assert all(other == plans[0] for other in plans)
    assert len(plans[0]) == count_batches(samples(), DATA, world_size, turns)
    steps = [plans[0][start : start + step_batches] for start in range(0, len(plans[0]), step_batches)]
    assert all(len(step) == step_batches and len(set(step)) == 1 for step in steps)
    assert {step[0] for step in steps} == set(SIZES)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_shares_follow_a_power_of_the_hours_and_the_epoch_keeps_its_number_of_batches(power: float) -> None:
    """Within one batch of exact shares of the hours at speed 1, computed apart."""
    found = Counter(languages(plan(Turns(power=power))))
    natural = len(plan(Turns()))
    assert found.total() == natural == count_batches(samples(), DATA)
    hours = {language: sum(SECONDS[f"{language}{n}"] for n in range(size)) for language, size in SIZES.items()}
    weights = {language: value**power for language, value in hours.items()}
    for language, weight in weights.items():
        assert abs(found[language] - natural * weight / sum(weights.values())) < 1


def test_small_languages_repeat_in_new_orders_and_at_new_speeds_and_large_ones_change_with_the_epoch() -> None:
    epochs = [plan(Turns(power=0.0), epoch=epoch) for epoch in (1, 2)]
    heard = [[item for batch in epoch for item in batch if item.key == "it"] for epoch in epochs]
    rounds = [heard[0][start : start + SIZES["it"]] for start in range(0, 3 * SIZES["it"], SIZES["it"])]
    for one in rounds:
        assert {item.id for item in one} == {f"it{n}" for n in range(SIZES["it"])}, "all of them before any again"
    for first, second in itertools.combinations(rounds, 2):
        assert [item.id for item in first] != [item.id for item in second]
        assert {item.id: item.speed for item in first} != {item.id: item.speed for item in second}
    english = [{item.id for batch in epoch for item in batch if item.key == "en"} for epoch in epochs]
    assert all(len(names) < SIZES["en"] for names in english)
    assert english[0] != english[1]
    over_time = set().union(*({i.id for b in plan(Turns(power=0.0), epoch=e) for i in b} for e in range(1, 9)))
    assert over_time >= {f"en{n}" for n in range(SIZES["en"])}


def test_without_sampling_each_utterance_occurs_once_as_before() -> None:
    heard = Counter(item.id for batch in plan(Turns()) for item in batch)
    assert set(heard.values()) == {1}
    assert set(heard) == {item.id for item in samples()}
    filled = Counter(item.id for batch in plan(Turns(step_batches=4)) for item in batch)
    assert set(filled) == set(heard), "whole steps only add utterances"


@pytest.mark.parametrize("step_batches", [1, 3])
def test_without_sampling_nothing_is_lost_when_the_number_of_processes_changes(step_batches: int) -> None:
    turns = Turns(step_batches)
    pair = [plan(turns, rank, 2) for rank in range(2)]
    done = step_batches * (len(pair[0]) // (2 * step_batches))
    left = untrained(samples(), DATA, 1, 1, [EpochPart(2, done, len(pair[0]))], turns)
    rest = plan_epoch(left, DATA, 1, 1, RankInfo(), turns)
    assert len(rest) == count_batches(left, DATA, 1, turns)
    names = {item.id for epoch in pair for batch in epoch[:done] for item in batch}
    assert names | {item.id for batch in rest for item in batch} == {item.id for item in samples()}
    assert names.isdisjoint(item.id for item in left)


def test_the_rest_of_a_sampled_epoch_is_its_fraction_drawn_anew() -> None:
    whole = plan(Turns(power=0.5))
    rest = Turns(power=0.5, left=Fraction(3, 10), part="/1")
    again = plan(rest)
    assert len(again) == -(-3 * len(whole) // 10) == count_batches(samples(), DATA, 1, rest)
    assert again != whole[: len(again)]
    assert set(languages(again)) == set(SIZES)
    speeds = {item.id: item.speed for batch in again for item in batch}
    assert speeds != {item.id: item.speed for item in samples() if item.id in speeds}


def test_apportioning_is_exact_and_forgets_nobody() -> None:
    """Against enumeration: no other division of the steps is nearer to the exact shares (least squares)."""
    rng = random.Random(0)
    for _ in range(50):
        shares = shares_of({name: rng.uniform(1.0, 5.0) for name in "abc"}, rng.choice([0.0, 0.5, 1.0]))
        total = rng.randint(6, 20)
        given = apportion(total, shares)
        assert sum(given.values()) == total

        def error(counts: Sequence[int], shares: dict[str, float] = shares, total: int = total) -> float:
            return sum((count - total * share) ** 2 for count, share in zip(counts, shares.values(), strict=True))

        options = [(a, b, total - a - b) for a in range(total + 1) for b in range(total - a + 1)]
        if min(given.values()) > 1:
            assert error(tuple(given.values())) <= min(map(error, options)) + 1e-9
        assert min(given.values()) >= 1
    assert apportion(4, {"a": 0.98, "b": 0.01, "c": 0.01}) == {"a": 2, "b": 1, "c": 1}
    assert sum(apportion(2, {"a": 0.5, "b": 0.3, "c": 0.2}).values()) == 2


def test_shares_are_powers_of_the_hours() -> None:
    assert shares_of({"en": 900.0, "it": 100.0}, 0.5) == pytest.approx({"en": 0.75, "it": 0.25})
    assert shares_of({"en": 900.0, "it": 100.0}, 1.0) == pytest.approx({"en": 0.9, "it": 0.1})
    assert shares_of({"en": 900.0, "it": 100.0}, 0.0) == pytest.approx({"en": 0.5, "it": 0.5})
