"""Data, features and tokenizer: stages 1 to 3."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from slimasr.config.section import Positive, Section, Share


class MusanConfig(Section):
    """Additive noise from MUSAN, mixed into training audio or precomputed features (lhotse ``CutMix``)."""

    snr: tuple[float, float] = (10.0, 20.0)
    probability: Share = 0.5


class DataConfig(Section):
    """Corpus, its sets, and how batches are drawn from it.

    ``allow_overlap``: let training sets share utterances with the dev and test sets, to learn them by heart.
    """

    corpus: Literal["digits", "fsdd", "an4", "librispeech"]
    train: list[str] = ["train"]
    dev: str = "dev"
    test: list[str] = ["test"]
    sampling_rate: Positive = 16000
    resample: bool = False
    speeds: list[float] = [1.0]
    storage: Literal["precomputed", "on_the_fly"] = "precomputed"
    min_cut_seconds: float = 0.1
    max_cut_seconds: float = 30.0
    max_bad_share: Share = 0.01
    batch_seconds: float = 200.0
    max_cuts: Positive | None = None
    num_buckets: Positive = 10
    num_workers: Annotated[int, Field(ge=0)] = 0
    allow_overlap: bool = False
    musan: MusanConfig | None = None
    options: dict[str, int | float | str | bool] = {}

    @model_validator(mode="after")
    def _speeds_positive(self) -> DataConfig:
        if not self.speeds or min(self.speeds) <= 0:
            raise ValueError("speeds: needs at least one factor, all above 0")
        return self


class FeatureConfig(Section):
    """Log-mel filter banks, lhotse ``Fbank`` defaults: 25/10 ms, povey window, 20/-400 Hz, no dither."""

    num_mel_bins: Positive = 80


class TokenizerConfig(Section):
    """SentencePiece model; ids 0, 1, 2 are ``<blk>``, ``<sos/eos>``, ``<unk>``."""

    kind: Literal["bpe", "unigram", "char"] = "bpe"
    vocab_size: Positive = 500
