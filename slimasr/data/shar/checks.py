"""Checks that the features or the audio of shards are what the configuration trains on, and decodes them."""

from __future__ import annotations

import math

import numpy as np
from lhotse import Fbank, MonoCut, MultiCut
from lhotse.cut import Cut

from slimasr.config.corpora import AVERAGE
from slimasr.config.schema import Config
from slimasr.data.audio.recordings import AudioError, load_samples
from slimasr.data.features.frames import FRAME_SHIFT
from slimasr.data.manifests.listing import CHANNEL_ADVICE, missing_channel
from slimasr.data.shar.files import Content, ShardFiles
from slimasr.errors import UserError


def checked_cut(cut: Cut, config: Config, shard: ShardFiles) -> Cut:
    """Check an utterance that was read with its data, and return it with the channel that ``data.options`` choose.

    Raises:
        UserError: its sampling rate or the settings of its features differ from the configuration, or it has several
            channels, of which none is chosen.
    """
    rate = config.data.sampling_rate
    if config.data.shar.content == "features":
        _check_features(cut, config, shard)
        return cut
    if cut.sampling_rate != rate and not config.data.resample:
        raise UserError(
            f"{shard.data}: {cut.id} has the sampling rate {cut.sampling_rate}, data.sampling_rate is {rate}; set "
            "data.resample to true to allow it"
        )
    # Shards that stage 2 has written hold one channel, and their corpora may not have this option.
    return _with_channel(cut, str(config.data.options.get("channel", "")), shard) if shard.is_given else cut


def decode(cut: Cut, content: Content, name: str) -> np.ndarray:
    """Decode what was read of an utterance: (T, F) features, or (1, num_samples) float32 audio.

    Args:
        name: of the shard, for messages.

    Raises:
        AudioError: it is damaged or out of range.
    """
    if content == "audio":
        return load_samples(cut, name)
    try:
        features: np.ndarray = cut.load_features()
    except (OSError, ValueError, AssertionError) as error:
        # lhotse appends the whole cut to its message.
        reason = str(error).partition("[extra info]")[0].strip()
        raise AudioError(f"{name}: the features cannot be decoded ({reason})") from error
    return features


def _with_channel(cut: Cut, wanted: str, shard: ShardFiles) -> Cut:
    """The utterance with the channel that is wanted, or the average of all; without a choice, its own channel."""
    channels = cut.recording.channel_ids
    if not wanted:
        if isinstance(cut, MonoCut) or len(channels) == 1:
            return cut
        raise UserError(f"{shard.data}: {cut.id} has {len(channels)} channels, needs to be mono: {CHANNEL_ADVICE}")
    if wanted == AVERAGE:
        # Decoding averages channels.
        return _of_channels(cut, MultiCut, list(channels)) if len(channels) > 1 else cut
    problem = missing_channel(int(wanted), len(channels))
    if problem is not None:
        raise UserError(f"{shard.data}: {cut.id} {problem}; correct data.options.channel, or leave the shard out")
    return _of_channels(cut, MonoCut, channels[int(wanted)])


def _of_channels(cut: Cut, kind: type[MonoCut] | type[MultiCut], channel: int | list[int]) -> Cut:
    return kind(cut.id, cut.start, cut.duration, channel, cut.supervisions, recording=cut.recording, custom=cut.custom)


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
