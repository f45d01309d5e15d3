"""Whether the features or the audio of shards are what the configuration trains on."""

from __future__ import annotations

import math

from lhotse import Fbank
from lhotse.cut import Cut

from slimasr.config.schema import Config
from slimasr.data.features.frames import FRAME_SHIFT
from slimasr.data.shar.files import ShardFiles
from slimasr.errors import UserError


def check_cut(cut: Cut, config: Config, shard: ShardFiles) -> None:
    """Check an utterance that was read with its data.

    Raises:
        UserError: its sampling rate or the settings of its features differ from the configuration.
    """
    rate = config.data.sampling_rate
    if config.data.shar.content == "features":
        _check_features(cut, config, shard)
    elif cut.sampling_rate != rate and not config.data.resample:
        raise UserError(
            f"{shard.data}: {cut.id} has the sampling rate {cut.sampling_rate}, data.sampling_rate is {rate}; set "
            "data.resample to true to allow it"
        )


def _check_features(cut: Cut, config: Config, shard: ShardFiles) -> None:
    features = cut.features
    bins = config.features.num_mel_bins
    differences = [
        ("kind", features.type, Fbank.name),
        ("number of mel bins", features.num_features, bins),
        ("sampling rate", features.sampling_rate, config.data.sampling_rate),
    ]
    for what, found, wanted in differences:
        if found != wanted:
            raise UserError(
                f"{shard.data}: the features of {cut.id} have the {what} {found}, the configuration needs {wanted}; "
                "read other shards, or shards of audio (data.shar.content audio)"
            )
    if not math.isclose(features.frame_shift, FRAME_SHIFT):
        raise UserError(
            f"{shard.data}: the features of {cut.id} have one frame in {features.frame_shift:g} s, slimasr needs one "
            f"in {FRAME_SHIFT:g} s; read shards of audio (data.shar.content audio)"
        )
