"""Shards of the training sets in lhotse's Shar format, and what cannot be combined with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from slimasr.config.section import Positive, Section

if TYPE_CHECKING:
    from slimasr.config.data import DataConfig


class SharConfig(Section):
    """Shards of utterances in lhotse's Shar format, which training reads as a stream."""

    content: Literal["features", "audio"] = "features"
    """What shards hold and training reads from them: features at the one speed of ``data.speeds``, or FLAC audio, from
    which features are computed for every batch."""

    shard_cuts: Positive = 1000
    """Number of utterances in each shard that stage 2 (slimasr-features) writes."""

    buffer_cuts: Positive = 2000
    """Number of utterances that each process which reads shards keeps in memory with their features or audio, and from
    which it draws batches of similar duration; 2000 of 12 s need about 200 MB as features, 400 MB as audio."""

    allow_pipes: bool = False
    """Whether shards may be shell commands (``pipe:``), which are then run; false = such a shard is an error."""


def check_shards(data: DataConfig) -> None:
    """Refuse settings that have no meaning with the storage of the training sets.

    Raises:
        ValueError: a setting needs shards, or cannot be combined with them.
    """
    if data.storage != "shar":
        if data.set_weights:
            raise ValueError("set_weights: only data.storage shar draws from sets by weight; remove them")
        return
    if data.set_weights and set(data.set_weights) != set(data.train):
        raise ValueError(f"set_weights: needs a weight for each of the sets {', '.join(data.train)}, and no other")
    if data.shar.content == "features" and len(data.speeds) > 1:
        raise ValueError("speeds: shards of features hold a single speed; several need shar.content audio")
    if data.language_batches:
        raise ValueError("language_batches: batches of one language are not drawn from shards; use another storage")
    if data.language_sampling != "natural":
        raise ValueError("language_sampling: with data.storage shar, set_weights says how often sets are drawn")
