"""A seeded sample of the utterances of shards, where reading all of them would take too long."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from lhotse.cut import Cut

from slimasr.data.shar.files import ShardFiles

FEWEST_SHARDS = 20
"""A sample comes from at least this many shards, if there are so many."""


def sample_cuts(
    shards: Sequence[ShardFiles], size: int, read: Callable[[ShardFiles], Iterator[Cut]]
) -> Iterator[tuple[ShardFiles, Cut]]:
    """Yield at most this many utterances, each after its shard: the first ones of shards that are drawn at random.

    Shards are read from their beginning, so that no more than the sample is read of any of them. The sample does not
    depend on the seed of a recipe, because several recipes share statistics and tokenizer.

    Args:
        shards: all shards.
        size: number of utterances.
        read: reads a shard, with or without its data.
    """
    order = list(shards)
    random.Random("sample").shuffle(order)
    share = max(1, -(-size // min(FEWEST_SHARDS, len(order))))
    left = size
    for shard in order:
        for cut in islice(read(shard), min(share, left)):
            left -= 1
            yield shard, cut
        if not left:
            return
