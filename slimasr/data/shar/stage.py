"""The part of stage 2 (slimasr-features) that concerns training sets which are read as a stream of shards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from lhotse import Fbank
from lhotse.cut import Cut

from slimasr.config.schema import Config
from slimasr.data.audio.recordings import AudioError
from slimasr.data.features.frames import extract_frames
from slimasr.data.features.shards import ShardResult, make_extractor, read_result
from slimasr.data.files import BadUtterance, DataFolder
from slimasr.data.identity.manifest_record import manifest_identity
from slimasr.data.sets import streamed_sets
from slimasr.data.shar.checks import checked_cut, decode
from slimasr.data.shar.files import ShardFiles, read_shard
from slimasr.data.shar.found import given_shards, is_given
from slimasr.data.shar.record import write_shar_record
from slimasr.data.shar.sample import sample_cuts
from slimasr.data.shar.writing import SharShard, make_shar_shards, remove_stale

STATISTICS_SAMPLE = 5000
"""Number of utterances of a set of given shards over which feature statistics are computed."""


@dataclass
class Streams:
    """The streamed training sets of a recipe.

    Attributes:
        written: sets whose shards this stage writes.
        given: sets whose shards are read in place.
    """

    written: dict[str, list[SharShard]] = field(default_factory=dict)
    given: dict[str, list[ShardFiles]] = field(default_factory=dict)

    @property
    def shards(self) -> Iterator[SharShard]:
        """All shards that this stage writes."""
        for shards in self.written.values():
            yield from shards


def make_streams(config: Config, folder: DataFolder) -> Streams:
    """Divide sets into shards, and find those that are given.

    Raises:
        UserError: a given shard is missing, damaged, or of another rate or kind than the recipe needs.
    """
    streams = Streams()
    for name in streamed_sets(config):
        if is_given(config.data, name):
            streams.given[name] = given_shards(config.data, name)
        else:
            streams.written[name] = make_shar_shards(config, folder, name)
    return streams


def record_streams(config: Config, folder: DataFolder, streams: Streams) -> dict[str, list[ShardResult]]:
    """Record the shards of all streamed sets, remove those of earlier data, and return what the sets hold.

    Returns:
        Set name -> results of its shards, or of a sample of given ones.
    """
    found: dict[str, list[ShardResult]] = {}
    for name, written in streams.written.items():
        found[name] = [read_result(shard) for shard in written]
        files = [shard.files for shard in written]
        write_shar_record(config, folder, name, files, manifest_identity(folder, name))
        remove_stale(written)
    for name, given in streams.given.items():
        found[name] = [sampled_result(config, given)]
        write_shar_record(config, folder, name, given, manifest_identity(folder, name))
    return found


def sampled_result(config: Config, shards: list[ShardFiles]) -> ShardResult:
    """The sums of features over a seeded sample of given shards.

    Raises:
        UserError: a shard is damaged, or of another rate or kind than the recipe needs.
    """
    bins = config.features.num_mel_bins
    content = config.data.shar.content
    extractor = make_extractor(bins, config.data.sampling_rate)
    total, total_square = np.zeros(bins), np.zeros(bins)
    num_frames = 0
    bad: list[BadUtterance] = []
    for shard, cut in sample_cuts(shards, STATISTICS_SAMPLE, partial(read_shard, content=content)):
        try:
            features = _features(checked_cut(cut, config, shard), config, shard, extractor)
        except AudioError as error:
            bad.append(BadUtterance(cut.id, str(error)))
            continue
        # float64, because sums of many frames exceed the precision of float32.
        total += features.sum(axis=0, dtype=np.float64)
        total_square += np.square(features, dtype=np.float64).sum(axis=0)
        num_frames += len(features)
    count = sum(shard.num_cuts for shard in shards)
    return ShardResult(count, num_frames, total.tolist(), total_square.tolist(), bad)


def _features(cut: Cut, config: Config, shard: ShardFiles, extractor: Fbank) -> np.ndarray:
    """The (T, F) features of an utterance, which are decoded or computed from its audio.

    Raises:
        AudioError: it is damaged.
    """
    if config.data.shar.content == "features":
        return decode(cut, "features", shard.data)
    at_rate = cut.resample(config.data.sampling_rate)
    return extract_frames(extractor, decode(at_rate, "audio", shard.data), at_rate.sampling_rate, cut.duration)
