"""The training batches of one process from shards, in an order that follows from the seed and the place alone."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any, TypeVar

import torch
from lhotse.cut import Cut
from torch.utils.data import DataLoader

from slimasr.data.batches.batch import Batch
from slimasr.data.files import BadUtterance
from slimasr.data.memory.sampling import EpochPart, RankInfo, pack
from slimasr.data.shar.deal import Turn, consumed, deal
from slimasr.data.shar.order import continued, next_block
from slimasr.data.shar.place import Place
from slimasr.data.shar.reader import Closed, Failed, Item, Opened, Reading, ShardReader, as_it_is
from slimasr.errors import UserError

T = TypeVar("T")

LARGEST_SAMPLE = 400
"""Number of utterances from which the largest batches are made that are tried before training."""


@dataclass(frozen=True)
class ShardSource:
    """Training batches from shards, without end.

    An epoch is a number of batches. The batches of a run follow from the seed, the number of processes and workers, and
    the place at which it begins; every batch carries the place after it.

    Attributes:
        reading: what all readers have in common.
        process: this process among those of the run.
        epoch_batches: number of batches of each epoch, per process.
        gather: gathers one plain value from every process, in rank order.
        on_block: receives how many utterances a block of this process had and those that cannot be used.
    """

    reading: Reading
    process: RankInfo
    epoch_batches: Sequence[int]
    gather: Callable[[Any], list[Any]]
    on_block: Callable[[int, Sequence[BadUtterance]], None]

    @property
    def num_readers(self) -> int:
        """Number of readers of this process."""
        return max(1, self.reading.config.data.num_workers)

    def num_train_batches(self, epoch: int, parts: Sequence[EpochPart] = ()) -> int:
        """Number of batches that the earlier parts of an epoch have left."""
        return max(0, self.epoch_batches[epoch - 1] - sum(part.done for part in parts))

    def train_batches(self, epoch: int, skip: int = 0, parts: Sequence[EpochPart] = ()) -> Iterator[Batch]:
        """Yield batches of a stream that begins with the epoch, from shards in an order of its own.

        They serve trials and estimates; a run trains on `batches_at`.
        """
        return self._stream(replace(self.reading, seed=self.reading.seed + epoch), self._beginning())

    def batches_at(self, place: Place | None) -> Iterator[Batch]:
        """Yield the batches of a run from a place on; None = from the beginning."""
        start = self._beginning() if place is None else continued(self.reading.pools, place, self._all_readers)
        return self._stream(self.reading, start)

    def worst_batches(self) -> list[Batch]:
        """The batches of most audio and of the largest lattice that utterances at the beginning of a pass make."""
        return largest_batches(self.reading, self._beginning())

    @property
    def _all_readers(self) -> int:
        return self.num_readers * self.process.world_size

    def _beginning(self) -> Place:
        return Place(tuple(0 for _ in self.reading.pools), 0, self._all_readers)

    def _stream(self, reading: Reading, place: Place) -> Iterator[Batch]:
        alone = self._all_readers == 1
        skips = [place.batch] if alone else self._skips(reading, place)
        items = [self._items(reading, number, place, skip) for number, skip in enumerate(skips)]
        while True:
            if alone:
                closed = yield from _own_block(items[0], place)
            else:
                closed = yield from self._shared_block(items, place)
            seen = sum(part.seen for part in closed)
            self.on_block(seen, [item for part in closed for item in part.bad])
            place = next_block(reading.pools, place)

    def _items(self, reading: Reading, number: int, place: Place, skip: int) -> Iterator[Item]:
        """What one reader of this process yields, in this process or in a worker of its own."""
        reader = self._reader(reading, number, place, skip)
        if not self.reading.config.data.num_workers:
            return iter(reader)
        # One loader for each reader: a loader of several would mix their blocks as it finds time.
        loader = DataLoader(
            reader,
            # Batching is off: the reader makes batches.
            batch_size=None,
            num_workers=1,
            # The default function would convert the batch's fields.
            collate_fn=as_it_is,
            # Without this, a number would be drawn from torch's global generator, and a resumed run would differ.
            generator=torch.Generator().manual_seed(0),
            pin_memory=torch.cuda.is_available(),
        )
        return iter(loader)

    def _reader(self, reading: Reading, number: int, place: Place, skip: int = 0) -> ShardReader:
        overall = self.process.rank * self.num_readers + number
        return ShardReader(reading, overall, place, skip=skip, announce=self._all_readers > 1)

    def _skips(self, reading: Reading, place: Place) -> list[int]:
        """For each reader of this process, the number of batches of the block that need not be made again."""
        if not place.batch:
            return [0] * self.num_readers
        lengths = [self._reader(reading, number, place).lengths(place) for number in range(self.num_readers)]
        # All processes resume together, so this gathering meets those of the others.
        return consumed(self._turns(lengths)[: place.batch + 1], self.num_readers)

    def _turns(self, lengths: Sequence[Sequence[int]]) -> list[Turn]:
        """The turns of this process in a block; all processes have equally many."""
        own = sum(map(len, lengths))
        counts = self.gather(own)
        if not all(counts):
            raise UserError(
                f"data.train: {counts.count(0)} of {len(counts)} processes found no usable utterance in their part of "
                "the shards; see bad_utterances.jsonl, or use fewer processes"
            )
        return deal(lengths, max(counts))

    def _shared_block(self, items: Sequence[Iterator[Item]], place: Place) -> Generator[Batch, None, list[Closed]]:
        """Yield the batches of a block that several readers share."""
        turns = self._turns([_expected(reader, Opened).lengths or () for reader in items])
        last = next_block(self.reading.pools, place)
        current: Item | None = None
        before: Turn | None = None
        for number, turn in enumerate(turns, start=1):
            if before is None or (turn.reader, turn.number) != (before.reader, before.number):
                current = _next(items[turn.reader])
            before = turn
            if number <= place.batch:
                continue
            assert isinstance(current, Batch), "a reader makes as many batches as it has announced"
            batch = current if turn.rows is None else current.select(_rows_left(turn.rows, len(current)))
            yield replace(batch, place=last if number == len(turns) else replace(place, batch=number))
        return [_expected(reader, Closed) for reader in items]


def _own_block(items: Iterator[Item], place: Place) -> Generator[Batch, None, list[Closed]]:
    """Yield the batches of a block that has a single reader."""
    _expected(items, Opened)
    is_empty = place.batch == 0
    for number in count(1):
        item = _next(items)
        if isinstance(item, Closed):
            if is_empty:
                raise UserError("data.train: the shards hold no usable utterance; see bad_utterances.jsonl")
            return [item]
        if isinstance(item, Batch):
            is_empty = False
            yield replace(item, place=replace(place, batch=number))
    raise AssertionError("count() has no end")


def _rows_left(rows: Sequence[int], size: int) -> list[int]:
    """The rows of a part of a batch that has only so many left; utterances that cannot be decoded are not in it."""
    return [row for row in rows if row < size] or [size - 1]


def _next(items: Iterator[Item]) -> Item:
    item = next(items)
    if isinstance(item, Failed):
        raise UserError(item.message)
    return item


def _expected(items: Iterator[Item], kind: type[T]) -> T:
    item = _next(items)
    assert isinstance(item, kind), f"a reader yields {kind.__name__} here"
    return item


def largest_batches(reading: Reading, place: Place) -> list[Batch]:
    """The batches of most audio and of the largest lattice among those packed from `LARGEST_SAMPLE` utterances."""
    data = reading.config.data
    reader = ShardReader(reading, 0, place)
    cuts = list(islice(reader.usable(place), LARGEST_SAMPLE))
    slowest = [SlowCut(cut.id, cut.duration / min(reading.speeds), cut) for cut in cuts]
    packed = pack(slowest, data.batch_seconds, data.max_cuts)
    if not packed:
        return []
    # The first utterance of each batch is its longest.
    lengths = [batch[0].duration for batch in packed]
    tokens = [[len(reading.tokenizer.encode(item.cut.supervisions[0].text)) for item in batch] for batch in packed]
    sizes = [len(batch) * batch[0].duration * (1 + max(own)) for batch, own in zip(packed, tokens, strict=True)]
    largest = {lengths.index(max(lengths)), sizes.index(max(sizes))}
    collator = reading.collator(0, 0)
    speed = min(reading.speeds)
    chosen = [(number, [item.cut for item in packed[number]]) for number in sorted(largest)]
    # Those that cannot be decoded are counted when the run comes to them.
    made = [reader.batch(collator, drawn, speed)[0] for drawn in chosen]
    return [batch for batch in made if batch is not None]


@dataclass(frozen=True)
class SlowCut:
    """An utterance with its duration in seconds at the lowest training speed."""

    id: str
    duration: float
    cut: Cut
