"""The training run: optimiser, schedule, augmentation, and which checkpoints to keep."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from slimasr.config.initial import InitConfig
from slimasr.config.section import (
    AutoThreads,
    Fraction,
    Natural,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    PositiveFraction,
    Rate,
    Section,
)

if TYPE_CHECKING:
    from slimasr.config.schema import Config


class AdamWConfig(Section):
    """AdamW (Loshchilov and Hutter 2019)."""

    kind: Literal["adamw"] = "adamw"
    """Selects AdamW."""

    lr: PositiveFloat = 1e-3
    """Peak learning rate, which the schedule scales."""

    betas: tuple[Rate, Rate] = (0.9, 0.98)
    """Decay rates per step of the running means of the gradient and of its square."""

    eps: PositiveFloat = 1e-8
    """Added to the root of the mean square gradient, so that steps stay finite."""

    weight_decay: NonNegativeFloat = 1e-3
    """Decoupled weight decay; norms, biases, embeddings and state-space parameters have none; 0 = none."""

    ssm_lr_scale: PositiveFloat = 0.1
    """Factor on the learning rate of time scales and poles of state-space models, which large steps destroy."""


class ScaledAdamConfig(Section):
    """ScaledAdam (Yao et al. 2023): steps relative to each tensor's size, which is learned as well."""

    kind: Literal["scaled_adam"] = "scaled_adam"
    """Selects ScaledAdam."""

    lr: PositiveFloat = 0.045
    """Peak learning rate relative to the size of each tensor, which the schedule scales."""

    betas: tuple[Rate, Rate] = (0.9, 0.98)
    """Decay rates per step of the running means of the step and of the squared gradient."""

    eps: PositiveFloat = 1e-8
    """Added to the root of the mean square gradient, so that steps stay finite."""

    scale_lr: PositiveFloat = 0.1
    """Factor on ``lr`` for the learned sizes of tensors, and for single numbers, time scales and poles, which take
    plain Adam steps."""

    rms_min: PositiveFloat = 1e-5
    """Root mean square below which a tensor counts as this large and its size is not learned; at most ``rms_max``."""

    rms_max: PositiveFloat = 3.0
    """Largest root mean square to which a tensor's learned size may grow."""

    scalar_max: PositiveFloat = 10.0
    """Largest absolute value of parameters that are single numbers."""

    scale_period: Positive = 4
    """Number of steps between updates of the tensors' sizes; 1 = every step."""

    clip_scale: PositiveFloat | None = 2.0
    """Multiple of the median gradient norm, weighted by the tensors' sizes, at which gradients are clipped; null = at
    ``training.clip_norm`` instead."""

    clip_window: Positive = 100
    """Number of last steps over which ``clip_scale`` takes the median."""

    ssm_lr_scale: PositiveFloat = 0.1
    """Factor on the learning rate of time scales and poles of state-space models, on top of ``scale_lr``."""

    @model_validator(mode="after")
    def _sizes_in_order(self) -> ScaledAdamConfig:
        if self.rms_min > self.rms_max:
            raise ValueError("rms_min: must not exceed rms_max")
        return self


OptimizerConfig = Annotated[AdamWConfig | ScaledAdamConfig, Field(discriminator="kind")]


class ProgressScheduleConfig(Section):
    """Learning rate over the run: linear warm-up from 0 to the peak, then the kind's law."""

    kind: Literal["linear", "cosine", "noam", "constant", "tri_stage"] = "linear"
    """Law after the warm-up: a straight line, half a cosine, the inverse square root of the step, no change, or no
    change and then exponential decay."""

    warmup: Fraction = 0.05
    """Fraction of all optimiser steps over which the rate rises; 0 = none; noam needs more than 0."""

    hold: Fraction = 0.4
    """Fraction of all optimiser steps for which tri_stage stays at the peak; other kinds ignore it."""

    final_scale: Fraction = 0.0
    """Learning rate at the end of the run as a fraction of the peak, with linear, cosine and tri_stage, which needs
    more than 0."""

    @model_validator(mode="after")
    def _defined(self) -> ProgressScheduleConfig:
        if self.kind == "noam" and self.warmup == 0.0:
            raise ValueError("warmup: noam needs a fraction above 0")
        if self.kind == "tri_stage" and self.final_scale == 0.0:
            raise ValueError("final_scale: tri_stage decays exponentially and needs a value above 0")
        return self


class ForceAnnealScheduleConfig(Section):
    """Linear warm-up, a constant learning rate, and from some epoch on a lower rate in every epoch (paper 2)."""

    kind: Literal["force_anneal"] = "force_anneal"
    """Selects forced annealing."""

    warmup_steps: Natural = 0
    """Number of optimiser steps over which the rate rises from 0 to the peak; 0 = none."""

    anneal_epoch: Positive = 60
    """First epoch with a lower rate, counted from 1; if it is above ``training.num_epochs``, the rate never falls."""

    factor: PositiveFraction = 0.96
    """Factor on the rate at the beginning of every such epoch; 1 = the rate stays."""


class EdenScheduleConfig(Section):
    """Eden (Yao et al. 2023): ``(1 + (step / steps)^2)^-1/4 (1 + (epoch / epochs)^2)^-1/4``, after a warm-up."""

    kind: Literal["eden"] = "eden"
    """Selects Eden."""

    steps: PositiveFloat = 7500.0
    """Number of optimiser steps after which the step factor has fallen to 0.84."""

    epochs: PositiveFloat = 3.5
    """Number of epochs after which the epoch factor has fallen to 0.84."""

    warmup_steps: Natural = 500
    """Number of optimiser steps over which the warm-up factor rises from ``warmup_start`` to 1; 0 = none."""

    warmup_start: Fraction = 0.5
    """Warm-up factor at the first step; 1 = no warm-up."""


class PiecewiseScheduleConfig(Section):
    """Straight lines between given points of the run, such as those of a one-cycle schedule (paper 4)."""

    kind: Literal["piecewise"] = "piecewise"
    """Selects the schedule of given points."""

    points: list[tuple[Fraction, Fraction]]
    """Pairs of a position in the run, as a fraction of all optimiser steps, and of the fraction of the peak learning
    rate there; positions rise from 0 to 1, and two equal ones make a jump."""

    @model_validator(mode="after")
    def _cover_the_run(self) -> PiecewiseScheduleConfig:
        shares = [share for share, _ in self.points]
        if len(shares) < 2 or shares != sorted(shares) or (shares[0], shares[-1]) != (0.0, 1.0):
            raise ValueError(
                "points: needs pairs such as [0, 0.01], [0.5, 1], [1, 0], the first ones rising from 0 to 1"
            )
        if all(factor == 0.0 for _, factor in self.points):
            raise ValueError("points: needs a fraction of the peak learning rate above 0")
        return self


ScheduleConfig = Annotated[
    ProgressScheduleConfig | ForceAnnealScheduleConfig | EdenScheduleConfig | PiecewiseScheduleConfig,
    Field(discriminator="kind"),
]


class SpecAugmentConfig(Section):
    """Frequency and time masks filled with the feature mean."""

    num_freq_masks: Natural = 2
    """Number of frequency masks per utterance, or the smallest one if it is drawn; 0 = none."""

    max_freq_masks: Natural | None = None
    """Largest number of frequency masks, which is then drawn uniformly for every utterance; at least
    ``num_freq_masks``; null = always ``num_freq_masks``."""

    max_freq_bins: Natural = 27
    """Largest width of a frequency mask in mel bins; the width is drawn uniformly from 0 on."""

    num_time_masks: Natural = 2
    """Number of time masks per utterance, or the smallest one if it is drawn; 0 = none."""

    frames_per_time_mask: Positive | None = None
    """Feature frames of 10 ms of an utterance for each of its time masks at most, whose number is then drawn uniformly
    for every utterance from ``num_time_masks`` on; null = always ``num_time_masks``."""

    max_time_frames: Natural = 100
    """Largest length of a time mask in feature frames of 10 ms; the length is drawn uniformly from 0 on."""

    max_time_share: Fraction = 1.0
    """Largest length of a time mask as a fraction of its utterance."""

    @model_validator(mode="after")
    def _numbers_in_order(self) -> SpecAugmentConfig:
        if self.max_freq_masks is not None and self.max_freq_masks < self.num_freq_masks:
            raise ValueError("max_freq_masks: must be at least num_freq_masks")
        return self


class TrainingConfig(Section):
    """The training run: its length, its optimiser, its checkpoints, and when it stops."""

    num_epochs: Positive | None = 30
    """Number of passes over the training sets; null = ``num_steps`` says how long the run is, also if only that is
    given."""

    num_steps: Positive | None = None
    """Number of optimiser steps of a run that reads shards as a stream (``data.storage: shar``), whose passes are not
    counted; null = ``num_epochs`` says how long the run is; exactly one of the two is given."""

    epoch_steps: Positive = 1000
    """Number of optimiser steps after which an epoch is taken to end in a run of ``num_steps``; validations,
    checkpoints, logs and schedules of epochs count these."""

    init: InitConfig | None = None
    """What training begins with; null = random weights, and feature statistics and tokenizer of the data folder."""

    optimizer: OptimizerConfig = AdamWConfig()
    """Optimiser."""

    schedule: ScheduleConfig = ProgressScheduleConfig()
    """How the learning rate changes over the run."""

    spec_augment: SpecAugmentConfig | None = SpecAugmentConfig()
    """SpecAugment on training features (Park et al. 2019); null = none."""

    clip_norm: PositiveFloat | None = 5.0
    """Norm to which larger gradients are scaled down, unless ScaledAdam itself clips them; null = never."""

    accumulate: Positive = 1
    """Number of batches per process whose gradients are summed for one optimiser step."""

    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """Arithmetic of the forward passes; bf16 and fp16 are mixed precision, fp16 with loss scaling."""

    compile: bool = False
    """Whether ``torch.compile`` makes code for the encoder's feed-forward modules at the beginning of a run; it needs a
    C++ compiler."""

    average_start: Fraction = 0.6
    """Fraction of the run after which the weights are averaged for the final model; 0 = from the beginning, 1 = only at
    the very end."""

    average_period: Positive = 10
    """Number of optimiser steps from one set of weights that enters the average to the next."""

    calibration_batches: Positive = 50
    """Number of training batches, over all processes, on which batch norms are re-estimated for the final model."""

    keep_last: Positive = 2
    """Number of newest checkpoints to keep for resuming; best.pt and final.pt are kept anyway."""

    checkpoint_minutes: PositiveFloat = 10.0
    """Minutes between checkpoints within an epoch; every epoch ends with one."""

    validate_every: Positive = 1
    """Number of epochs between validations; the last epoch is always validated."""

    log_every: Positive = 20
    """Number of optimiser steps between entries in the log of losses."""

    max_nonfinite: Positive = 10
    """Number of steps in a row with a non-finite loss or gradient, all of them skipped, at which training stops."""

    scan_worst_batches: bool = True
    """Whether the largest batches are tried at the beginning, so that a lack of memory shows at once."""

    num_threads: AutoThreads | None = "auto"
    """Processor threads of each training process; null = PyTorch's choice; auto = the fastest of 1, 2, 4 and so on, as
    timed at the beginning, unless more threads gain little, so that the rounding of two runs may differ."""

    energy: bool = False
    """Whether training reads the machine's energy meters and counts processor and GPU time (extra ``energy``)."""

    @model_validator(mode="before")
    @classmethod
    def _steps_alone(cls, given: Any) -> Any:
        """Replace the default of ``num_epochs`` where only ``num_steps`` is given."""
        if isinstance(given, dict) and given.get("num_steps") is not None and "num_epochs" not in given:
            return {**given, "num_epochs": None}
        return given

    @model_validator(mode="after")
    def _one_length(self) -> TrainingConfig:
        if self.num_epochs is not None and self.num_steps is not None:
            raise ValueError(
                f"num_steps: the run's length is given twice, as num_epochs {self.num_epochs} and num_steps "
                f"{self.num_steps}; set one of them to null"
            )
        if self.num_epochs is None and self.num_steps is None:
            raise ValueError("num_epochs: the run has no length; give num_epochs, or num_steps with data.storage shar")
        return self

    @property
    def epochs(self) -> int:
        """Number of epochs of the run; the last one of a run of ``num_steps`` may be shorter than the others."""
        if self.num_steps is not None:
            return math.ceil(self.num_steps / self.epoch_steps)
        assert self.num_epochs is not None, "one of the two is given"
        return self.num_epochs

    def check(self, config: Config) -> None:
        streamed = config.data.storage == "shar"
        if streamed and self.num_steps is None:
            raise ValueError("training.num_steps: data.storage shar reads a stream, so the length of a run is in steps")
        if not streamed and self.num_steps is not None:
            raise ValueError(
                f"training.num_steps: data.storage {config.data.storage} trains for training.num_epochs; only shards "
                "(data.storage shar) are read as a stream"
            )
