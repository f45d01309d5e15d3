"""Batches from shards: what a pass holds, what a resumed run reads, and errors, on one process and many."""

from __future__ import annotations

import gzip
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.data.memory.sampling import RankInfo
from slimasr.data.shar.files import ShardFiles
from slimasr.data.shar.place import Place
from slimasr.data.shar.source import ShardSource
from slimasr.errors import UserError
from tests.data.made_shards import recipe, shards_in, source_of, write_shards

SIZES = [7, 7, 7, 7, 5]
TOTAL = sum(SIZES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards") / "train", SIZES)


def passes(batches: Iterator[Batch], count: int, total: int = TOTAL) -> list[Counter[str]]:
    """The utterances of the first passes over a set of this size."""
    found = []
    for _ in range(count):
        seen: Counter[str] = Counter()
        while seen.total() < total:
            seen.update(next(batches).ids)
        found.append(seen)
    return found


def of_one_process(folder: Path, **data: Any) -> ShardSource:
    config = recipe(**data)
    return source_of(config, {"train": shards_in(folder, config)})


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_each_utterance_is_seen_once_in_every_pass(folder: Path, num_workers: int) -> None:
    source = of_one_process(folder, num_workers=num_workers)
    for seen in passes(source.batches_at(None), 2):
        assert seen == Counter(f"u{number}" for number in range(TOTAL))


def test_batches_hold_what_the_shards_hold(folder: Path) -> None:
    from lhotse import CutSet

    config = recipe()
    source = source_of(config, {"train": shards_in(folder, config)})
    cuts = {cut.id: cut for cut in CutSet.from_shar(in_dir=folder)}
    for batch in islice(source.batches_at(None), 8):
        longest = max(cuts[name].duration for name in batch.ids)
        assert len(batch) * longest <= config.data.batch_seconds or len(batch) == 1
        for row, (name, text) in enumerate(zip(batch.ids, batch.texts, strict=True)):
            assert text == cuts[name].supervisions[0].text
            frames = int(batch.x_lens[row])
            torch.testing.assert_close(batch.x[row, :frames], torch.from_numpy(cuts[name].load_features()))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stream_goes_on_at_every_place_with_the_same_batches(folder: Path, num_workers: int) -> None:
    source = of_one_process(folder, num_workers=num_workers)
    whole = list(islice(source.batches_at(None), 40))
    assert sum(len(batch) for batch in whole) > TOTAL
    # Within a block, at its end, and in the next pass.
    for number in (0, 4, 11, 19, 30) if not num_workers else (5, 21):
        rest = islice(source.batches_at(whole[number].place), 5)
        for batch, expected in zip(rest, whole[number + 1 :], strict=False):
            assert batch.ids == expected.ids
            assert batch.place == expected.place
            torch.testing.assert_close(batch.x, expected.x, rtol=0, atol=0)


class Processes:
    """Sources of several processes, run by threads that gather values as the processes of a training do."""

    def __init__(self, config: Config, sets: dict[str, list[ShardFiles]], size: int, **options: Any) -> None:
        self.size = size
        self.barrier = threading.Barrier(size, timeout=60)
        self.values: list[Any] = [None] * size
        self.sources = [
            source_of(config, sets, process=RankInfo(rank, size), gather=partial(self.gather, rank), **options)
            for rank in range(size)
        ]

    def gather(self, rank: int, value: Any) -> list[Any]:
        self.values[rank] = value
        self.barrier.wait()
        gathered = list(self.values)
        self.barrier.wait()
        return gathered

    def run(self, place: Place | None, steps: int) -> list[list[Batch]]:
        """The first batches of every process."""
        found: list[list[Batch]] = [[] for _ in self.sources]

        def take(rank: int) -> None:
            found[rank] = list(islice(self.sources[rank].batches_at(place), steps))

        threads = [threading.Thread(target=take, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(len(batches) == steps for batches in found)
        return found


def ids_of(steps: list[list[Batch]], start: int, end: int) -> Counter[str]:
    return Counter(name for batches in steps for batch in batches[start:end] for name in batch.ids)


@pytest.mark.parametrize(("size", "num_workers"), [(2, 0), (3, 0), (2, 2)])
def test_many_processes_see_no_utterance_twice_before_all_others_of_the_pass(
    folder: Path, size: int, num_workers: int
) -> None:
    config = recipe(num_workers=num_workers)
    processes = Processes(config, {"train": shards_in(folder, config)}, size)
    steps = processes.run(None, 40)
    # All processes stand at the same place after every step.
    for batches in zip(*steps, strict=True):
        assert len({batch.place for batch in batches}) == 1
    # The places say where passes end.
    places = [batch.place for batch in steps[0] if batch.place is not None]
    ends = [n for n, place in enumerate(places, 1) if place.batch == 0 and place.starts[0] % len(SIZES) == 0]
    assert len(ends) >= 2
    for start, end in zip([0, *ends], ends, strict=False):
        assert ids_of(steps, start, end) == Counter(f"u{number}" for number in range(TOTAL))
    # A run that resumes in the middle of a block goes on with exactly the rest of it.
    middle = ends[0] + 2
    resumed = processes.run(steps[0][middle - 1].place, 4)
    assert [[batch.ids for batch in own] for own in resumed] == [
        [b.ids for b in own[middle : middle + 4]] for own in steps
    ]


def test_another_number_of_processes_repeats_nothing_of_the_pass(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "train", [3] * 30)
    config = recipe()
    sets = {"train": shards_in(folder, config)}
    alone = list(islice(source_of(config, sets).batches_at(None), 6))
    before = Counter(name for batch in alone for name in batch.ids)
    both = Processes(config, sets, 2)
    steps = both.run(alone[-1].place, 12)
    in_pass = [n for n, batch in enumerate(steps[0], 1) if batch.place and batch.place.starts[0] <= 30]
    after = ids_of(steps, 0, max(in_pass) if steps[0][-1].place.starts[0] > 30 else 12)
    assert after
    assert set((before + after).values()) == {1}


def test_sets_with_weights_are_drawn_in_proportion(tmp_path: Path) -> None:
    config = recipe(train=["a", "b"], set_weights={"a": 3.0, "b": 1.0})
    sets = {
        "a": shards_in(write_shards(tmp_path / "a", [6, 6], "a"), config),
        "b": shards_in(write_shards(tmp_path / "b", [12] * 10, "b"), config),
    }
    seen: Counter[str] = Counter()
    for batch in islice(source_of(config, sets).batches_at(None), 150):
        seen.update(name[0] for name in batch.ids)
    assert seen["a"] / seen["b"] == pytest.approx(3.0, rel=0.1)


def levels_of(steps: list[list[Batch]]) -> dict[str, list[float]]:
    """Utterance -> its first values, which tell its level, in the order of the steps."""
    found: dict[str, list[float]] = {}
    for batches in zip(*steps, strict=True):
        for batch in batches:
            for row, name in enumerate(batch.ids):
                found.setdefault(name, []).append(round(float(batch.x[row, 0, 0]), 4))
    return found


@pytest.mark.parametrize("content", ["features", "audio"])
def test_changes_depend_on_the_pass_and_not_on_who_reads(content: str, tmp_path: Path) -> None:
    # Enough shards for several blocks on one process.
    folder = write_shards(tmp_path / "train", [2] * 9, audio=content == "audio")
    changes: dict[str, Any] = {"gain": {"range_db": [-30.0, 6.0], "probability": 1.0}, "shar": {"content": content}}
    if content == "audio":
        changes |= {"reverb": {"probability": 1.0}, "speeds": [0.9, 1.0, 1.1]}
    alone = of_one_process(folder, **changes)
    expected = levels_of([list(islice(alone.batches_at(None), 30))])
    assert len(expected) == 18
    assert all(len(levels) >= 2 and len(set(levels)) == len(levels) for levels in expected.values())
    found = [levels_of([list(islice(of_one_process(folder, **changes, num_workers=2).batches_at(None), 30))])]
    config = recipe(**changes)
    found.append(levels_of(Processes(config, {"train": shards_in(folder, config)}, 3).run(None, 12)))
    for levels in found:
        assert len(levels) == 18
        for name, own in levels.items():
            assert own[:2] == expected[name][:2]


def test_an_utterance_that_recurs_in_a_block_gets_another_level(tmp_path: Path) -> None:
    config = recipe(train=["a", "b"], set_weights={"a": 9.0, "b": 1.0}, gain={"probability": 1.0})
    sets = {
        "a": shards_in(write_shards(tmp_path / "a", [2], "a"), config),
        "b": shards_in(write_shards(tmp_path / "b", [2] * 3, "b"), config),
    }
    batches = list(islice(source_of(config, sets).batches_at(None), 40))
    first_block = [batch for batch in batches if batch.place and batch.place.starts == (0, 0)]
    levels = levels_of([first_block])
    assert len(levels["a0"]) >= 3
    assert len({*levels["a0"]}) == len(levels["a0"])


def test_unusable_utterances_are_left_out_and_counted_as_they_come(tmp_path: Path) -> None:
    from slimasr.data.shar.left_out import LeftOut

    write_shards(tmp_path / "good", [6, 6])
    write_shards(tmp_path / "bad", [2], "bad", text="xyz xyz")
    config = recipe()
    listing = tmp_path / "bad_utterances.jsonl"
    left_out = LeftOut(listing, "train", 0.2, lambda value: [value], writes=True)
    sets = {"train": [*shards_in(tmp_path / "good", config), *shards_in(tmp_path / "bad", config)]}
    source = source_of(config, sets, on_block=left_out.add)
    for seen in passes(source.batches_at(None), 3, 12):
        assert seen == Counter(f"u{number}" for number in range(12))
    lines = listing.read_text(encoding="utf-8").splitlines()
    # Once each, although every pass finds them.
    assert sorted(line[:13] for line in lines) == ['{"id": "bad0"', '{"id": "bad1"']
    assert "characters the tokenizer does not know" in lines[0]
    assert left_out.note() == f"train: 2 of the utterances read so far cannot be used ({listing})"
    assert left_out.note() is None
    strict = LeftOut(listing, "train", 0.1, lambda value: [value], writes=True)
    with pytest.raises(UserError, match=r"train: 2 of the 14 training utterances read so far cannot be used, above"):
        passes(source_of(config, sets, on_block=strict.add).batches_at(None), 2, 12)


def spoil(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "cut off":
        path.write_bytes(content[: len(content) // 2])
    elif how == "cut off between utterances":
        # Five of seven utterances: two headers and two contents of whole blocks each.
        import tarfile

        with tarfile.open(path) as archive:
            path.write_bytes(content[: archive.getmembers()[10].offset])
    elif how == "no archive":
        path.write_bytes(b"this is no archive" * 100)
    elif how == "another manifest":
        lines = gzip.decompress(content).splitlines(keepends=True)
        path.write_bytes(gzip.compress(b"".join(lines[1:] + lines[:1])))
    else:
        path.unlink()


@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        (
            "features.000000.tar",
            "cut off",
            r"features\.000000\.tar: damaged or truncated shard \(.*\); copy or write it",
        ),
        (
            "features.000000.tar",
            "cut off between utterances",
            r"features\.000000\.tar: holds the features of 5 utterances",
        ),
        ("features.000000.tar", "no archive", r"features\.000000\.tar: damaged or truncated shard"),
        ("features.000000.tar", "removed", r"features\.000000\.tar: is missing; restore the shard"),
        ("cuts.000000.jsonl.gz", "cut off", r"cuts\.000000\.jsonl\.gz: damaged or truncated shard"),
        (
            "cuts.000000.jsonl.gz",
            "another manifest",
            r"features\.000000\.tar: damaged or truncated shard \(Mismatched IDs",
        ),
    ],
)
def test_a_damaged_shard_is_one_clear_line(tmp_path: Path, name: str, how: str, message: str) -> None:
    folder = write_shards(tmp_path / "train", [7])
    # Where audio is missing, the error comes from a worker.
    config = recipe(num_workers=1 if how == "removed" else 0)
    sets = {"train": shards_in(folder, config)}
    spoil(folder / name, how)
    with pytest.raises(UserError, match=message) as raised:
        list(islice(source_of(config, sets).batches_at(None), 20))
    assert "\n" not in str(raised.value)


def test_features_of_another_rate_or_size_are_one_clear_line(tmp_path: Path) -> None:
    config = recipe()
    for name, options, message in (
        ("rate", {"rate": 8000}, r"the features of u\d have the sampling rate 8000, the configuration needs 16000"),
        ("bins", {"bins": 40}, r"the features of u\d have the number of mel bins 40, the configuration needs 20"),
    ):
        folder = write_shards(tmp_path / name, [7], **options)
        with pytest.raises(UserError, match=message):
            next(source_of(config, {"train": shards_in(folder, config)}).batches_at(None))
