"""The order of shards, compared with counts of what every reader is given."""

from __future__ import annotations

from collections import Counter

import pytest

from slimasr.data.shar.deal import consumed, deal
from slimasr.data.shar.files import ShardFiles
from slimasr.data.shar.order import SHARDS_TOGETHER, Pool, continued, make_pools, next_block, pieces_of
from slimasr.data.shar.place import Place


def shards(count: int, size: int = 10, name: str = "s") -> list[ShardFiles]:
    return [ShardFiles(f"{name}{index}.cuts", f"{name}{index}.tar", size) for index in range(count)]


def utterances(pools: tuple[Pool, ...], place: Place, seed: int = 1) -> list[list[tuple[str, int, int]]]:
    """For each reader: (shard, pass, number in the shard) of all that it reads of a block."""
    return [
        [
            (piece.shard.cuts, piece.round, number)
            for piece in pieces_of(pools, place, reader, seed)
            for number in range(piece.shard.num_cuts)
            if number % piece.parts == piece.part
        ]
        for reader in range(place.readers)
    ]


@pytest.mark.parametrize("count", [1, 3, 8, 9, 100])
@pytest.mark.parametrize("readers", [1, 2, 6])
def test_a_pass_has_each_utterance_once_over_all_readers(count: int, readers: int) -> None:
    pools = make_pools({"train": shards(count)}, {})
    place = Place((0,), 0, readers)
    for round_ in range(3):
        seen: Counter[tuple[str, int, int]] = Counter()
        while place.starts[0] < (round_ + 1) * count:
            blocks = utterances(pools, place)
            sizes = [len(block) for block in blocks]
            # What is left over of the division into whole shards is divided utterance by utterance.
            assert max(sizes) - min(sizes) <= SHARDS_TOGETHER
            for block in blocks:
                seen.update(block)
            place = next_block(pools, place)
        # Passes end with a block.
        assert place.starts == ((round_ + 1) * count,)
        assert set(seen.values()) == {1}
        assert len(seen) == count * 10
        assert {passed for _, passed, _ in seen} == {round_}


def test_passes_and_seeds_have_orders_of_their_own() -> None:
    pools = make_pools({"train": shards(50)}, {})
    first, again, second, other = (
        [name for name, _, _ in utterances(pools, Place((start,)), seed)[0]][::10]
        for start, seed in ((0, 1), (0, 1), (50, 1), (0, 2))
    )
    assert first == again
    assert first != second
    assert first != other


def test_weights_count_utterances_of_sets_whose_shards_differ_in_size() -> None:
    pools = make_pools({"a": shards(3, 10, "a"), "b": shards(40, 40, "b")}, {"a": 1.0, "b": 3.0})
    place = Place((0, 0), 0, 2)
    seen: Counter[str] = Counter()
    for _ in range(60):
        for block in utterances(pools, place):
            seen.update(name[0] for name, _, _ in block)
        place = next_block(pools, place)
    assert seen["b"] / seen["a"] == pytest.approx(3.0, rel=0.05)


def test_another_number_of_readers_leaves_out_the_rest_of_a_block_and_repeats_nothing() -> None:
    pools = make_pools({"train": shards(40)}, {})
    begun = Place((10,), 3, 1)
    assert continued(pools, begun, 1) == begun
    after = continued(pools, begun, 3)
    before = {item for block in utterances(pools, begun) for item in block}
    assert after.batch == 0
    assert after.readers == 3
    assert not before & {item for block in utterances(pools, after) for item in block}
    # Nothing of a block that has not begun is left out.
    assert continued(pools, Place((10,), 0, 1), 3) == Place((10,), 0, 3)


@pytest.mark.parametrize("lengths", [[[4, 4, 1]], [[2, 3], [5]], [[1, 1, 9], [], [2]], [[1]]])
@pytest.mark.parametrize("more", [0, 1, 3])
def test_dealt_turns_are_as_many_as_wanted_and_use_each_utterance_once(lengths: list[list[int]], more: int) -> None:
    batches = sum(map(len, lengths))
    total = sum(map(sum, lengths))
    wanted = min(batches + more, total)
    turns = deal(lengths, wanted)
    assert len(turns) == wanted
    used = [
        (turn.reader, turn.number, row)
        for turn in turns
        for row in (range(lengths[turn.reader][turn.number]) if turn.rows is None else turn.rows)
    ]
    every = [(r, n, row) for r, own in enumerate(lengths) for n, size in enumerate(own) for row in range(size)]
    assert sorted(used) == every
    for done in range(wanted):
        skips = consumed(turns[: done + 1], len(lengths))
        # What is not consumed has all that the turns from here on need.
        assert all(turn.number >= skips[turn.reader] for turn in turns[done:])
        assert sum(skips) == len(
            {(turn.reader, turn.number) for turn in turns[:done]} - {(turns[done].reader, turns[done].number)}
        )


def test_a_process_with_fewer_utterances_than_turns_uses_the_last_one_again() -> None:
    assert len(deal([[1, 1]], 4)) == 4
