"""Data, features and tokenizer: stages 1 to 3."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator
from pydantic_core import PydanticCustomError

from slimasr.config.section import (
    LARGEST_INT,
    Bounds,
    Fraction,
    MelBins,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Processes,
    Section,
    SetName,
    is_distinct,
)

Decibels = Annotated[float, Bounds(-100.0, 100.0)]
VocabSize = Annotated[int, Bounds(4, LARGEST_INT)]
Speed = Annotated[float, Bounds(0.1, 10.0)]
SamplingRate = Annotated[int, Bounds(1000, 1_000_000)]


def _plain(value: Any) -> Any:
    if not isinstance(value, int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
        raise PydanticCustomError("option", "must be a finite number, a text, true or false")
    return value


Option = Annotated[int | float | str | bool, BeforeValidator(_plain)]
"""An option of a corpus, which checks its range itself."""


class MusanConfig(Section):
    """Additive noise from MUSAN, mixed into training audio or precomputed features (lhotse ``CutMix``)."""

    snr: tuple[Decibels, Decibels] = (10.0, 20.0)
    probability: Fraction = 0.5

    @model_validator(mode="after")
    def _snr_in_order(self) -> MusanConfig:
        if self.snr[0] > self.snr[1]:
            raise ValueError("snr: the lower bound must not exceed the upper one")
        return self


class DataConfig(Section):
    """Corpus, its sets, and how batches are drawn from it.

    ``allow_overlap``: let training sets share utterances with the dev and test sets, to learn them by heart.
    """

    corpus: Literal["digits", "fsdd", "an4", "librispeech"]
    train: list[SetName] = ["train"]
    dev: SetName = "dev"
    test: list[SetName] = ["test"]
    sampling_rate: SamplingRate = 16000
    resample: bool = False
    speeds: list[Speed] = [1.0]
    storage: Literal["precomputed", "on_the_fly"] = "precomputed"
    min_cut_seconds: NonNegativeFloat = 0.1
    max_cut_seconds: PositiveFloat = 30.0
    max_bad_share: Fraction = 0.01
    batch_seconds: PositiveFloat = 200.0
    max_cuts: Positive | None = None
    num_buckets: Positive = 10
    num_workers: Processes = 0
    allow_overlap: bool = False
    musan: MusanConfig | None = None
    options: dict[str, Option] = {}

    @model_validator(mode="after")
    def _possible(self) -> DataConfig:
        if not self.train or not is_distinct(self.train):
            raise ValueError("train: needs at least one set, all different")
        if not is_distinct(self.test):
            raise ValueError("test: the sets must be different")
        # Speeds that are written alike would share their files.
        if not self.speeds or not is_distinct([f"{speed:g}" for speed in self.speeds]):
            raise ValueError("speeds: needs at least one factor, all different")
        if self.min_cut_seconds > self.max_cut_seconds:
            raise ValueError("min_cut_seconds: must not exceed data.max_cut_seconds")
        return self


class FeatureConfig(Section):
    """Log-mel filter banks, lhotse ``Fbank`` defaults: 25/10 ms, povey window, 20/-400 Hz, no dither."""

    num_mel_bins: MelBins = 80


class TokenizerConfig(Section):
    """SentencePiece model; ids 0, 1, 2 are ``<blk>``, ``<sos/eos>``, ``<unk>``."""

    kind: Literal["bpe", "unigram", "char"] = "bpe"
    vocab_size: VocabSize = 500
