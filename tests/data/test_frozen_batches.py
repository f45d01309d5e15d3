"""Batches stay what they were: digests of ids, speeds and lengths, frozen with the code that kept all cuts in memory.

A change here changes the results of recipes whose runs are published, and runs that resume would repeat utterances.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from slimasr.config.data import DataConfig
from slimasr.data.batches.batch import Batch
from slimasr.data.memory.samples import Sample
from slimasr.data.memory.sampling import EpochPart, RankInfo, count_batches, plan_epoch, speed_of, untrained
from slimasr.data.memory.turns import Turns
from slimasr.data.tokens.tokenizer import Tokenizer
from tests.data.corpus import batch_source, config, make_an4
from tests.data.languages import recipe, speak_languages, stages

ALL = ["train-en", "train-fr", "train-it"]
SPEEDS = [0.9, 1.0, 1.1]


def digest(items: Iterable[Any]) -> str:
    return hashlib.sha256(repr(list(items)).encode()).hexdigest()[:16]


def digest_of_batches(batches: Iterable[Batch]) -> str:
    """Everything but the features themselves, whose last bits depend on the processor; lengths tell the speeds."""
    return digest((b.ids, b.key, b.texts, b.x_lens.tolist(), b.y.tolist(), b.language) for b in batches)


def drawn(count: int, speakers: int = 0) -> list[Sample]:
    """Utterances of 0.5 to 16 s, at the speeds of epoch 2."""
    rng = random.Random(7)
    samples = []
    for number in range(count):
        name, seconds = f"utterance-{number}", round(rng.uniform(0.5, 16.0), 3)
        speed = speed_of(name, SPEEDS, 42, 2)
        samples.append(Sample(name, speed, seconds / speed, f"s{number % speakers}" if speakers else None))
    return samples


def digest_of_plan(plan: Iterable[Iterable[Sample]]) -> str:
    return digest([(item.id, float(item.speed), float(item.duration), item.key) for item in batch] for batch in plan)


def data(**changes: Any) -> DataConfig:
    return config(**{"batch_seconds": 300.0, "max_cuts": None, "num_buckets": 30, **changes}).data


SOURCES: list[tuple[str, dict[str, Any], dict[str, Any], list[EpochPart], str]] = [
    # name, changes of the section data, arguments of the source, earlier parts of the epoch, digest
    ("one speed", {}, {}, [], "d7b9f2f510a45317"),
    ("three speeds", {"speeds": SPEEDS}, {}, [], "0db1c954373a3d7c"),
    ("seed", {"speeds": SPEEDS}, {"seed": 7}, [], "ddd674fe10fc16c1"),
    (
        "one bucket",
        {"speeds": SPEEDS, "num_buckets": 1, "max_cuts": None, "batch_seconds": 9.0},
        {},
        [],
        "cd495f43b47d2c8f",
    ),
    ("second rank of three", {"speeds": SPEEDS, "max_cuts": 3}, {"rank": 1, "world_size": 3}, [], "8211869d3216a611"),
    ("speakers", {"speeds": SPEEDS}, {"key": "speaker", "rank": 1, "world_size": 2}, [], "a2061eeb13fcff53"),
    ("parts", {"speeds": SPEEDS}, {}, [EpochPart(2, 2, 5), EpochPart(1, 1, 6)], "b98e8b89e2b58408"),
]


@pytest.mark.parametrize(
    ("changes", "options", "parts", "frozen"), [row[1:] for row in SOURCES], ids=[row[0] for row in SOURCES]
)
def test_batches_of_a_source(
    changes: dict[str, Any],
    options: dict[str, Any],
    parts: list[EpochPart],
    frozen: str,
    prepared: tuple[Path, Tokenizer],
) -> None:
    source = batch_source(config(**changes), *prepared, **options)
    epochs = [list(source.train_batches(epoch, parts=parts)) for epoch in (1, 2)]
    assert [len(batches) for batches in epochs] == [source.num_train_batches(epoch, parts) for epoch in (1, 2)]
    assert digest(map(digest_of_batches, [*epochs, source.worst_batches()])) == frozen


LANGUAGES: list[tuple[Any, list[EpochPart], str]] = [
    # data.language_sampling, earlier parts of the epoch, digest
    ("natural", [], "d9869244dcb6736c"),
    ("uniform", [], "31ddc97b3f58fbdb"),
    ({"power": 0.5}, [EpochPart(2, 4, 12)], "1c01d97dce471c28"),
    ("natural", [EpochPart(2, 4, 12)], "79412e0d4adf17e8"),
]


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tokenizer]:
    """Data folder with features from audio, and its tokenizer; to read only."""
    corpus = make_an4(tmp_path_factory.mktemp("corpus") / "an4")
    data_dir = tmp_path_factory.mktemp("multilingual") / "data"
    with pytest.MonkeyPatch.context() as monkeypatch:
        speak_languages(monkeypatch)
        return data_dir, stages(recipe({"train": ALL, "storage": "on_the_fly"}), data_dir, corpus)


@pytest.mark.parametrize(("sampling", "parts", "frozen"), LANGUAGES)
def test_batches_of_languages_at_speeds_made_from_audio(
    sampling: Any, parts: list[EpochPart], frozen: str, multilingual: tuple[Path, Tokenizer]
) -> None:
    section = {"train": ALL, "storage": "on_the_fly", "speeds": SPEEDS, "language_sampling": sampling, "max_cuts": 3}
    wanted = recipe(section, training={"accumulate": 2})
    source = batch_source(wanted, *multilingual, key="language", rank=1, world_size=2)
    batches = list(source.train_batches(2, parts=parts))
    assert len(batches) == source.num_train_batches(2, parts)
    assert digest(map(digest_of_batches, [batches, source.worst_batches()])) == frozen


@pytest.mark.parametrize(
    ("count", "settings", "speakers", "process", "frozen"),
    [
        # More utterances than lhotse's sampler keeps in its buffer.
        (21_000, data(), 0, RankInfo(), "cd1a720a96978511"),
        (3_000, data(max_cuts=25, batch_seconds=200.0), 2, RankInfo(1, 2), "d9de8f6e2016aa96"),
    ],
)
def test_plans(count: int, settings: DataConfig, speakers: int, process: RankInfo, frozen: str) -> None:
    samples = drawn(count, speakers)
    plan = plan_epoch(samples, settings, 42, 2, process)
    assert len(plan) == count_batches(samples, settings, process.world_size)
    assert digest_of_plan(plan) == frozen


def test_what_a_part_leaves_of_an_epoch() -> None:
    left = untrained(drawn(3_000), data(), 42, 2, [EpochPart(2, 30, 70), EpochPart(1, 10, 80)], Turns())
    assert digest_of_plan([left]) == "5b7d2f4790020f5d"
