"""Utterances of shards whose features or audio cannot be decoded: counted by stage 2, and left out of training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest

from slimasr.data.files import BadUtterance, DataFolder, read_bad
from slimasr.data.memory.sampling import RankInfo
from slimasr.errors import UserError
from tests.data.made_shards import recipe, shards_in, source_of, spoil_utterances, write_shards
from tests.data.test_shar_given import config_of, dev_set, listing, stages
from tests.data.test_shar_stream import Processes, ids_of, passes

FIELDS = {"audio": "recording", "features": "features"}
REASONS = {
    "audio": "000001.tar: cannot be decoded: damaged (",
    "features": "000001.tar: the features cannot be decoded (",
}
SIZES = [6, 6, 6]
LOST = ["u7", "u9"]
LEFT = {f"u{number}" for number in range(18)} - {*LOST}


def damaged(folder: Path, content: str, names: Sequence[str] = LOST) -> Path:
    """Three shards, of which the second one has utterances that cannot be decoded."""
    write_shards(folder, SIZES, audio=content == "audio")
    spoil_utterances(folder / f"{FIELDS[content]}.000001.tar", names)
    return folder


@pytest.mark.parametrize("content", FIELDS)
def test_stage_2_lists_them_with_their_shard(content: str, tmp_path: Path) -> None:
    dev_set(tmp_path / "dev")
    folder = damaged(tmp_path / "shards", content)
    stages(config_of(tmp_path, str(folder), shar={"content": content}, max_bad_share=0.2), tmp_path)
    found = read_bad(DataFolder(tmp_path / "data").bad("train"))
    assert sorted(item.id for item in found) == LOST
    assert all(f"shards/{FIELDS[content]}.{REASONS[content]}" in item.reason for item in found)


def test_a_shard_of_another_rate_is_named_and_not_another_one(tmp_path: Path) -> None:
    dev_set(tmp_path / "dev")
    write_shards(tmp_path / "good", [3], audio=True)
    write_shards(tmp_path / "slow", [3], audio=True, first=3, rate=8000)
    files = [{"cuts": f"{n}/cuts.000000.jsonl.gz", "recording": f"{n}/recording.000000.tar"} for n in ("good", "slow")]
    for order in (files, files[::-1]):
        path = listing(tmp_path / "list.jsonl", *order)
        with pytest.raises(UserError, match=r"slow/recording\.000000\.tar: u\d has the sampling rate 8000, data\.sam"):
            stages(config_of(tmp_path, path, shar={"content": "audio"}), tmp_path)


@pytest.mark.parametrize("content", FIELDS)
@pytest.mark.parametrize(("size", "seconds"), [(1, 3.0), (2, 3.0), (2, 1.0)])
def test_training_leaves_them_out_and_counts_them(content: str, size: int, seconds: float, tmp_path: Path) -> None:
    """On one process and two; batches of a second hold a single utterance, so that some are lost as a whole."""
    folder = damaged(tmp_path / "shards", content)
    config = recipe(shar={"content": content}, batch_seconds=seconds)
    closed: list[tuple[int, Sequence[BadUtterance]]] = []
    sets = {"train": shards_in(folder, config)}
    processes = Processes(config, sets, size, on_block=lambda seen, bad: closed.append((seen, bad)))
    steps = processes.run(None, 40)
    # Several processes know the end of a block when they come to it, one process only afterwards.
    end = sum(batch.place.starts == (0,) for batch in steps[0] if batch.place) + (size > 1)
    once = ids_of(steps, 0, end)
    assert once.keys() == LEFT
    # Where a batch of several processes is lost as a whole, another utterance takes its place.
    assert set(once.values()) == {1} or (size > 1 and once.total() <= len(LEFT) + len(LOST))
    first = closed[:size]
    assert sum(seen for seen, _ in first) == sum(SIZES)
    bad = [item for _, items in first for item in items]
    assert sorted(item.id for item in bad) == LOST
    assert all(f"shards/{FIELDS[content]}.{REASONS[content]}" in item.reason for item in bad)
    # A run that is resumed anywhere goes on with the same batches.
    for number in (0, end // 2):
        resumed = processes.run(steps[0][number].place, 3)
        following = [[batch.ids for batch in own[number + 1 : number + 4]] for own in steps]
        assert [[batch.ids for batch in own] for own in resumed] == following


@pytest.mark.parametrize("lost", ["u0", "u1"])
def test_a_batch_that_a_process_divides_may_have_lost_one(lost: str, tmp_path: Path) -> None:
    """One process has two utterances, the other one twelve; both make equally many batches."""
    folder = write_shards(tmp_path / "shards", [2, 12])
    spoil_utterances(folder / "features.000000.tar", [lost])
    config = recipe(batch_seconds=2.5, num_buckets=1)
    steps = Processes(config, {"train": shards_in(folder, config)}, 2).run(None, 5)
    (small,) = [own for own in steps if {"u0", "u1"} & {*own[0].ids}]
    assert [batch.ids for batch in small] == [tuple({"u0", "u1"} - {lost})] * 5


def test_the_largest_batches_are_made_without_them(tmp_path: Path) -> None:
    config = recipe(shar={"content": "audio"}, speeds=[0.9, 1.0])
    folder = damaged(tmp_path / "shards", "audio", [f"u{number}" for number in range(6, 11)])
    source = source_of(config, {"train": shards_in(folder, config)})
    assert source.worst_batches()
    (seen,) = passes(source.batches_at(None), 1, 13)
    assert seen == Counter(f"u{number}" for number in range(18) if number not in range(6, 11))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (1, "data.train: the shards hold no usable utterance"),
        (2, "no utterance of a block of shards can be decoded, as u.: .*recording.000000.tar: cannot be decoded"),
    ],
)
def test_shards_of_which_nothing_can_be_decoded_end_a_run(size: int, message: str, tmp_path: Path) -> None:
    config = recipe(shar={"content": "audio"})
    folder = write_shards(tmp_path / "shards", [3], audio=True)
    spoil_utterances(folder / "recording.000000.tar", ["u0", "u1", "u2"])
    # The second process finds the same in its part.
    process, gather = RankInfo(0, size), lambda value: [value] * size
    source = source_of(config, {"train": shards_in(folder, config)}, process=process, gather=gather)
    with pytest.raises(UserError, match=message):
        list(islice(source.batches_at(None), 2))
