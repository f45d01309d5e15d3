"""The order in which shards are read: passes, blocks, and the part of each reader. Pure functions of seed and position.

A pass over a pool reads its shards once, in an order drawn for this pass. It is divided into blocks, of which all
processes read one at a time. The shards of a block are divided among the readers: the training processes, or the
workers of each of them. What is left over of this division is read by all readers, each of which takes every so many
utterances of it. Batches are drawn within a block. A run that resumes therefore reads at most one block again, whatever
the length of the pass, and all processes begin every block, and so every pass, together.

Sets without weights are one pool. With weights, each set is a pool of its own, and a block has as many shards of each
as keeps the number of utterances in proportion to the weights; pools then begin new passes inside of blocks.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from slimasr.data.shar.files import ShardFiles
from slimasr.data.shar.place import Place

SHARDS_TOGETHER = 8
"""Number of shards of a block that each reader mixes, unless fewer are left of the pass."""


@dataclass(frozen=True)
class Pool:
    """Shards that are read once each before any is read again.

    Attributes:
        name: the sets, which the seed of the order contains.
        shards: in the order of the record.
        share: this pool's fraction of the shards that are read.
    """

    name: str
    shards: tuple[ShardFiles, ...]
    share: float = 1.0

    def between(self, start: int, end: int, seed: int) -> Iterator[Piece]:
        """The shards with these numbers, counted over all passes."""
        for round_ in range(start // len(self.shards), math.ceil(end / len(self.shards))):
            order = list(self.shards)
            random.Random(f"shards/{seed}/{self.name}/{round_}").shuffle(order)
            first = round_ * len(order)
            yield from (Piece(shard, round_) for shard in order[max(0, start - first) : end - first])


@dataclass(frozen=True)
class Piece:
    """A shard, or every so many utterances of it, in a pass.

    Attributes:
        shard: its files.
        round: number of the pass, from 0.
        part: which of the ``parts``: utterances whose number in the shard is ``part`` modulo ``parts``.
    """

    shard: ShardFiles
    round: int
    part: int = 0
    parts: int = 1


def make_pools(sets: Mapping[str, Sequence[ShardFiles]], weights: Mapping[str, float]) -> tuple[Pool, ...]:
    """The pools of the training sets.

    Args:
        sets: set name -> its shards.
        weights: ``data.set_weights``.
    """
    if not weights or len(sets) == 1:
        return (Pool("+".join(sets), tuple(shard for shards in sets.values() for shard in shards)),)
    # Shards of different sets may be of different size; the weights count utterances.
    rates = {name: weights[name] / max(1.0, _mean_cuts(shards)) for name, shards in sets.items()}
    total = sum(rates.values())
    return tuple(Pool(name, tuple(shards), rates[name] / total) for name, shards in sets.items())


def _mean_cuts(shards: Sequence[ShardFiles]) -> float:
    return sum(shard.num_cuts for shard in shards) / len(shards)


def block_ends(pools: Sequence[Pool], starts: Sequence[int], readers: int) -> tuple[int, ...]:
    """Where the block that begins at ``starts`` ends, as in `Place.starts`."""
    # With more pools than shards in a block, some blocks would be empty.
    size = max(readers * SHARDS_TOGETHER, len(pools) + 1)
    if len(pools) == 1:
        # Blocks of about equal size that end with the pass.
        left = len(pools[0].shards) - starts[0] % len(pools[0].shards)
        return (starts[0] + math.ceil(left / math.ceil(left / size)),)
    total = sum(starts) + size
    return tuple(max(start, math.floor(total * pool.share)) for pool, start in zip(pools, starts, strict=True))


def pieces_of(pools: Sequence[Pool], place: Place, reader: int, seed: int) -> list[Piece]:
    """What one of ``place.readers`` readers reads of the block at a place."""
    ends = block_ends(pools, place.starts, place.readers)
    spans = zip(pools, place.starts, ends, strict=True)
    block = [piece for pool, start, end in spans for piece in pool.between(start, end, seed)]
    whole = len(block) - len(block) % place.readers
    own = block[reader : whole : place.readers]
    return own + [Piece(piece.shard, piece.round, reader, place.readers) for piece in block[whole:]]


def next_block(pools: Sequence[Pool], place: Place) -> Place:
    """The beginning of the block after the one at a place."""
    return Place(block_ends(pools, place.starts, place.readers), 0, place.readers)


def continued(pools: Sequence[Pool], place: Place, readers: int) -> Place:
    """Where a run continues whose number of readers may have changed.

    The rest of a block that was divided among another number of readers is left out of the pass, so that no utterance
    occurs twice in it.
    """
    if place.readers == readers:
        return place
    begun = next_block(pools, place) if place.batch else place
    return Place(begun.starts, 0, readers)
