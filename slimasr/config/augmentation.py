"""Augmentation of training utterances: what microphones, rooms, other sounds and telephones do to speech."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from slimasr.config.section import Bounds, Fraction, Section, Text, is_distinct

Decibels = Annotated[float, Bounds(-100.0, 100.0)]
ReverberationSeconds = Annotated[float, Bounds(0.05, 5.0)]

TELEPHONE_RATE = 8000
"""Sampling rate of a telephone line in Hz."""

Codec = Literal["none", "mulaw", "alaw", "gsm", "opus"]
"""How speech is coded on a telephone line."""


def _check_order(key: str, limits: tuple[float, float]) -> None:
    """Raise `ValueError` unless the first of two limits is the lower one."""
    if limits[0] > limits[1]:
        raise ValueError(f"{key}: the lower bound must not exceed the upper one")


class GainConfig(Section):
    """Another level of training utterances, as of quiet and loud recordings, applied to audio or stored features."""

    range_db: tuple[Decibels, Decibels] = (-30.0, 6.0)
    """Lowest and highest gain in dB; each utterance gets one drawn uniformly in between; negative = quieter."""

    probability: Fraction = 1.0
    """Probability that the level of a training utterance is changed in an epoch; 0 = never, 1 = always."""

    @model_validator(mode="after")
    def _range_in_order(self) -> GainConfig:
        _check_order("range_db", self.range_db)
        return self


class ReverbConfig(Section):
    """Reverberation of training utterances by room impulse responses; features are then computed from audio."""

    folder: Text | None = None
    """Folder of recorded room impulse responses, one mono audio file each, which stage 1 (slimasr-prepare) lists; null
    = random responses of simple rooms are made."""

    probability: Fraction = 0.5
    """Probability that a training utterance gets reverberation in an epoch; 0 = never, 1 = always."""

    seconds: tuple[ReverberationSeconds, ReverberationSeconds] = (0.1, 0.8)
    """Shortest and longest time in seconds in which sound in a random room decays by 60 dB; of no effect with
    ``folder``."""

    direct_db: tuple[Decibels, Decibels] = (-3.0, 12.0)
    """Lowest and highest level in dB of the direct sound above the reverberation of a random room; of no effect with
    ``folder``."""

    @model_validator(mode="after")
    def _limits_in_order(self) -> ReverbConfig:
        _check_order("seconds", self.seconds)
        _check_order("direct_db", self.direct_db)
        return self


class NoiseConfig(Section):
    """Additive noise from a folder of audio, mixed into training audio or stored features."""

    folder: Text
    """Folder of mono audio files, which may lie in folders below it; stages 1 (slimasr-prepare) and 2
    (slimasr-features) read it."""

    snr: tuple[Decibels, Decibels] = (10.0, 20.0)
    """Lowest and highest signal-to-noise ratio in dB; each noisy utterance gets one drawn uniformly in between."""

    probability: Fraction = 0.5
    """Probability that a training utterance gets noise in an epoch; 0 = never, 1 = always."""

    @model_validator(mode="after")
    def _snr_in_order(self) -> NoiseConfig:
        _check_order("snr", self.snr)
        return self


class MusanConfig(Section):
    """Additive noise from MUSAN, mixed into training audio or precomputed features (lhotse ``CutMix``)."""

    snr: tuple[Decibels, Decibels] = (10.0, 20.0)
    """Lowest and highest signal-to-noise ratio in dB; each noisy utterance gets one drawn uniformly in between."""

    probability: Fraction = 0.5
    """Probability that a training utterance gets noise in an epoch; 0 = never, 1 = always."""

    @model_validator(mode="after")
    def _snr_in_order(self) -> MusanConfig:
        _check_order("snr", self.snr)
        return self


class TelephoneConfig(Section):
    """Telephone channels, a narrow band and a codec, for training utterances; features are then computed from audio."""

    codecs: list[Codec] = ["mulaw", "gsm"]
    """Codecs of the channel, of which one is drawn uniformly for each utterance: G.711 (mulaw, alaw), GSM full
    rate, Opus, or none, which leaves the band of 300 to 3400 Hz; at least one, all different."""

    probability: Fraction = 0.5
    """Probability that a training utterance passes through a telephone channel in an epoch; 0 = never, 1 = always."""

    @model_validator(mode="after")
    def _codecs_differ(self) -> TelephoneConfig:
        if not self.codecs or not is_distinct(self.codecs):
            raise ValueError("codecs: needs at least one, all different")
        return self
