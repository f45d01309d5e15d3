"""The typed schema of a recipe: one YAML per experiment, every key checked and named in errors.

Lengths in seconds unless the name says frames; shares are fractions of all optimiser steps. Sizes are those of
the max subnet. The schema is a leaf: it imports nothing of slimasr but the error type.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values are not changed after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class MusanConfig(Section):
    """Additive noise from MUSAN, mixed into training audio or precomputed features (lhotse ``CutMix``)."""

    snr: tuple[float, float] = (10.0, 20.0)
    probability: Share = 0.5


class DataConfig(Section):
    """Corpus, its sets, and how batches are drawn from it."""

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


class FrontendConfig(Section):
    """Two strided convolutions, time reduced 4 times, then a linear layer to ``d_model``."""

    kind: Literal["conv"] = "conv"
    channels: Positive = 64


class LayerSizes(Section):
    """Sizes of one encoder layer, as extraction writes them; 0 = the module is absent."""

    ffn1: Annotated[int, Field(ge=0)]
    heads: Annotated[int, Field(ge=0)]
    conv: Annotated[int, Field(ge=0)]
    ffn2: Annotated[int, Field(ge=0)]


class ConformerConfig(Section):
    """Elastic Conformer (paper 1)."""

    kind: Literal["conformer"] = "conformer"
    d_model: Positive = 256
    num_layers: Positive = 16
    num_heads: Positive = 4
    head_dim: Positive = 64
    ffn_dim: Positive = 1024
    kernel_size: Positive = 31
    attention: Literal["relative", "plain"] = "relative"
    position_dim: Positive | None = None
    slimming: Literal["head_count", "head_size"] = "head_count"
    norm: Literal["per_width", "shared", "recalibrated"] = "per_width"
    dropout: Rate = 0.1
    layers: list[LayerSizes] | None = None

    @model_validator(mode="after")
    def _possible(self) -> ConformerConfig:
        if self.kernel_size % 2 == 0:
            raise ValueError("kernel_size: must be odd, so that frames keep their place")
        if self.layers is not None and len(self.layers) != self.num_layers:
            raise ValueError("layers: needs one entry per encoder layer (num_layers)")
        return self


class StatelessPredictorConfig(Section):
    """Embedding and a grouped 1-D convolution over the last ``context_size`` labels."""

    kind: Literal["stateless"] = "stateless"
    dim: Positive = 512
    context_size: Positive = 2
    dropout: Rate = 0.0


class LstmPredictorConfig(Section):
    """Embedding and an LSTM over the whole label history."""

    kind: Literal["lstm"] = "lstm"
    dim: Positive = 512
    num_layers: Positive = 2
    embedding_dim: Positive = 512
    dropout: Rate = 0.1


class JoinerConfig(Section):
    """Project encoder and predictor to ``dim``, add, activate, project to the vocabulary."""

    dim: Positive = 512
    activation: Literal["tanh", "relu", "none"] = "tanh"


PredictorConfig = Annotated[StatelessPredictorConfig | LstmPredictorConfig, Field(discriminator="kind")]


class ModelConfig(Section):
    """A transducer: front end, encoder, predictor, joiner."""

    num_mel_bins: Positive = 80
    frontend: FrontendConfig = FrontendConfig()
    encoder: ConformerConfig = ConformerConfig()
    predictor: PredictorConfig = StatelessPredictorConfig()
    joiner: JoinerConfig = JoinerConfig()


class WidthSpaceConfig(Section):
    """All subnets differ in width only (paper 1)."""

    kind: Literal["widths"] = "widths"
    widths: list[Annotated[float, Field(gt=0.0, le=1.0)]] = [0.25, 0.5, 0.75, 1.0]

    @model_validator(mode="after")
    def _holds_one(self) -> WidthSpaceConfig:
        if 1.0 not in self.widths or len(set(self.widths)) != len(self.widths):
            raise ValueError("widths: must be different and contain 1.0")
        return self


class SlimmableConfig(Section):
    """Every step sums the losses of all subnets of the space (paper 1).

    ``share_predictor`` runs the predictor once per step, with one dropout mask for all subnets.
    """

    kind: Literal["slimmable"] = "slimmable"
    share_predictor: bool = True


class SeparateConfig(Section):
    """One subnet of the space, built as a stand-alone model and trained alone: the baseline.

    ``subnet`` is a width, an id or JSON; YAML reads a bare width as a number, which is as good.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)

    kind: Literal["separate"] = "separate"
    subnet: str = "1.0"


MethodConfig = Annotated[SlimmableConfig | SeparateConfig, Field(discriminator="kind")]


class LossConfig(Section):
    """Transducer loss and auxiliary CTC.

    ``pruned`` sums ``simple_scale`` times the smoothed simple loss and the pruned loss; over the first
    ``warmup`` share of steps the simple loss fades from 1 to ``simple_scale`` and the pruned one from 0.1 to 1.
    """

    transducer: Literal["full", "pruned"] = "pruned"
    rnnt_type: Literal["regular", "modified", "constrained"] = "regular"
    backend: Literal["auto", "k2", "torch"] = "auto"
    prune_range: Annotated[int, Field(ge=2)] = 5
    simple_scale: Share = 0.5
    lm_scale: Share = 0.25
    am_scale: Share = 0.0
    warmup: Share = 0.1
    delay_penalty: float = 0.0
    ctc_weight: Annotated[float, Field(ge=0.0)] = 0.0


class OptimizerConfig(Section):
    """AdamW; norms, biases and embeddings take no weight decay."""

    kind: Literal["adamw"] = "adamw"
    lr: Annotated[float, Field(gt=0.0)] = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-3


class ScheduleConfig(Section):
    """Learning rate over the run: linear warm-up over the first ``warmup`` share of all steps, then the kind's law.

    ``linear`` falls to ``final_scale`` of the peak; ``cosine`` likewise; ``noam`` decays with the inverse square
    root of the step; ``constant`` stays; ``tri_stage`` holds for ``hold`` of the steps, then decays exponentially.
    """

    kind: Literal["linear", "cosine", "noam", "constant", "tri_stage"] = "linear"
    warmup: Share = 0.05
    hold: Share = 0.4
    final_scale: Share = 0.0


class SpecAugmentConfig(Section):
    """Frequency and time masks filled with the feature mean."""

    num_freq_masks: Annotated[int, Field(ge=0)] = 2
    max_freq_bins: Annotated[int, Field(ge=0)] = 27
    num_time_masks: Annotated[int, Field(ge=0)] = 2
    max_time_frames: Annotated[int, Field(ge=0)] = 100
    max_time_share: Share = 1.0


class TrainingConfig(Section):
    """The trainer's run: how long, how fast, what to keep, when to stop."""

    num_epochs: Positive = 30
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    spec_augment: SpecAugmentConfig | None = SpecAugmentConfig()
    clip_norm: Annotated[float, Field(gt=0.0)] = 5.0
    accumulate: Positive = 1
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    average_start: Share = 0.6
    average_period: Positive = 10
    calibration_batches: Positive = 50
    keep_last: Positive = 2
    checkpoint_minutes: Annotated[float, Field(gt=0.0)] = 10.0
    validate_every: Positive = 1
    log_every: Positive = 20
    max_nonfinite: Positive = 10
    scan_worst_batches: bool = True
    num_threads: Positive | None = None


class DecodingConfig(Section):
    """Search for the best label sequence."""

    kind: Literal["greedy", "modified_beam"] = "greedy"
    beam: Positive = 4
    max_symbols_per_frame: Positive = 1
    batch_seconds: float = 200.0


class SearchConfig(Section):
    """How subnets are proposed and measured."""

    kind: Literal["exhaustive"] = "exhaustive"
    cost: Literal["params", "int8_bytes", "macs", "rtf"] = "params"
    rtf_seconds: float = 10.0
    rtf_threads: Positive = 1


class Config(Section):
    """One experiment. ``exp/<name>/config.yaml`` holds the resolved copy that later stages read."""

    name: str
    seed: Annotated[int, Field(ge=0)] = 42
    data: DataConfig
    features: FeatureConfig = FeatureConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    space: WidthSpaceConfig = WidthSpaceConfig()
    method: MethodConfig = SlimmableConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    decoding: DecodingConfig = DecodingConfig()
    search: SearchConfig = SearchConfig()

    @model_validator(mode="after")
    def _features_match(self) -> Config:
        if self.features.num_mel_bins != self.model.num_mel_bins:
            raise ValueError("model.num_mel_bins: must equal features.num_mel_bins")
        return self
