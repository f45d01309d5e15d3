"""The run: optimiser, schedule, augmentation, what to keep."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from slimasr.config.section import (
    Fraction,
    Natural,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    PositiveFraction,
    Rate,
    Section,
    Threads,
)


class AdamWConfig(Section):
    """AdamW; norms, biases, embeddings and state space parameters take no weight decay.

    ``ssm_lr_scale``: factor on the rate of state space parameters (time scales, poles), which large steps destroy.
    """

    kind: Literal["adamw"] = "adamw"
    lr: PositiveFloat = 1e-3
    betas: tuple[Rate, Rate] = (0.9, 0.98)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 1e-3
    ssm_lr_scale: PositiveFloat = 0.1


class ScaledAdamConfig(Section):
    """ScaledAdam (Yao et al. 2023): steps relative to each tensor's size, and a learnt size; ``lr`` is relative.

    ``clip_scale``: gradients, weighted by the tensors' sizes, are clipped at this multiple of the median norm of the
    last ``clip_window`` steps; null = at ``training.clip_norm``, as with AdamW. ``ssm_lr_scale``: as with AdamW, on the
    plain Adam steps of time scales and poles, whose rate is ``scale_lr`` times ``lr``.
    """

    kind: Literal["scaled_adam"] = "scaled_adam"
    lr: PositiveFloat = 0.045
    betas: tuple[Rate, Rate] = (0.9, 0.98)
    eps: PositiveFloat = 1e-8
    scale_lr: PositiveFloat = 0.1
    rms_min: PositiveFloat = 1e-5
    rms_max: PositiveFloat = 3.0
    scalar_max: PositiveFloat = 10.0
    scale_period: Positive = 4
    clip_scale: PositiveFloat | None = 2.0
    clip_window: Positive = 100
    ssm_lr_scale: PositiveFloat = 0.1

    @model_validator(mode="after")
    def _sizes_in_order(self) -> ScaledAdamConfig:
        if self.rms_min > self.rms_max:
            raise ValueError("rms_min: must not exceed rms_max")
        return self


OptimizerConfig = Annotated[AdamWConfig | ScaledAdamConfig, Field(discriminator="kind")]


class ProgressScheduleConfig(Section):
    """Learning rate over the run: linear warm-up over the first ``warmup`` share of all steps, then the kind's law.

    ``linear`` falls to ``final_scale`` of the peak; ``cosine`` likewise; ``noam`` decays with the inverse square
    root of the step; ``constant`` stays; ``tri_stage`` holds for ``hold`` of the steps, then decays exponentially.
    """

    kind: Literal["linear", "cosine", "noam", "constant", "tri_stage"] = "linear"
    warmup: Fraction = 0.05
    hold: Fraction = 0.4
    final_scale: Fraction = 0.0

    @model_validator(mode="after")
    def _defined(self) -> ProgressScheduleConfig:
        if self.kind == "noam" and self.warmup == 0.0:
            raise ValueError("warmup: noam needs a fraction above 0")
        if self.kind == "tri_stage" and self.final_scale == 0.0:
            raise ValueError("final_scale: tri_stage decays exponentially and needs a value above 0")
        return self


class ForceAnnealScheduleConfig(Section):
    """Linear warm-up over ``warmup_steps``, constant, and from epoch ``anneal_epoch`` on (counted from 1) a fall by
    ``factor`` with every epoch, that one included (paper 2)."""

    kind: Literal["force_anneal"] = "force_anneal"
    warmup_steps: Natural = 0
    anneal_epoch: Positive = 60
    factor: PositiveFraction = 0.96


class EdenScheduleConfig(Section):
    """Eden (Yao et al. 2023): falls with the power -1/4 of steps and of epochs, after a warm-up from
    ``warmup_start`` over ``warmup_steps``."""

    kind: Literal["eden"] = "eden"
    steps: PositiveFloat = 7500.0
    epochs: PositiveFloat = 3.5
    warmup_steps: Natural = 500
    warmup_start: Fraction = 0.5


ScheduleConfig = Annotated[
    ProgressScheduleConfig | ForceAnnealScheduleConfig | EdenScheduleConfig, Field(discriminator="kind")
]


class SpecAugmentConfig(Section):
    """Frequency and time masks filled with the feature mean."""

    num_freq_masks: Natural = 2
    max_freq_bins: Natural = 27
    num_time_masks: Natural = 2
    max_time_frames: Natural = 100
    max_time_share: Fraction = 1.0


class TrainingConfig(Section):
    """The trainer's run: how long, how fast, what to keep, when to stop.

    ``energy``: read the machine's energy meters, and count processor and GPU time (extra ``energy``).
    """

    num_epochs: Positive = 30
    optimizer: OptimizerConfig = AdamWConfig()
    schedule: ScheduleConfig = ProgressScheduleConfig()
    spec_augment: SpecAugmentConfig | None = SpecAugmentConfig()
    clip_norm: PositiveFloat = 5.0
    accumulate: Positive = 1
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    average_start: Fraction = 0.6
    average_period: Positive = 10
    calibration_batches: Positive = 50
    keep_last: Positive = 2
    checkpoint_minutes: PositiveFloat = 10.0
    validate_every: Positive = 1
    log_every: Positive = 20
    max_nonfinite: Positive = 10
    scan_worst_batches: bool = True
    num_threads: Threads | None = None
    energy: bool = False
