"""The typed schema of a recipe: one YAML per experiment, every key checked and named in errors.

Lengths in seconds unless the name says frames; shares are fractions of all optimiser steps. Sizes are those of
the max subnet. The sections live in modules of their own and are all found here. The schema is a leaf: it imports
nothing of slimasr but the error type.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import model_validator

from slimasr.config.data import (
    DataConfig,
    FeatureConfig,
    MusanConfig,
    TokenizerConfig,
)
from slimasr.config.loss import (
    AuxiliaryConfig,
    DistillationConfig,
    LossConfig,
)
from slimasr.config.method import (
    MethodConfig,
    MultiExitConfig,
    PhaseConfig,
    SeparateConfig,
    SlimmableConfig,
    TodmConfig,
)
from slimasr.config.model import (
    ConformerConfig,
    ConvFrontendConfig,
    EncoderConfig,
    FrontendConfig,
    JoinerConfig,
    LayerSizes,
    LstmPredictorConfig,
    MhSsmConfig,
    ModelConfig,
    PredictorConfig,
    StackFrontendConfig,
    StatelessPredictorConfig,
)
from slimasr.config.search import (
    CostName,
    DecodingConfig,
    EvolutionSearchConfig,
    ExhaustiveSearchConfig,
    Nsga2SearchConfig,
    RandomSearchConfig,
    SearchConfig,
    SearchSection,
)
from slimasr.config.section import Bounds, Line, Section
from slimasr.config.space import (
    LayerSpaceConfig,
    SpaceConfig,
    WidthSpaceConfig,
)
from slimasr.config.training import (
    AdamWConfig,
    EdenScheduleConfig,
    ForceAnnealScheduleConfig,
    OptimizerConfig,
    ProgressScheduleConfig,
    ScaledAdamConfig,
    ScheduleConfig,
    SpecAugmentConfig,
    TrainingConfig,
)

__all__ = [
    "AdamWConfig",
    "AuxiliaryConfig",
    "Config",
    "ConformerConfig",
    "ConvFrontendConfig",
    "CostName",
    "DataConfig",
    "DecodingConfig",
    "DistillationConfig",
    "EdenScheduleConfig",
    "EncoderConfig",
    "EvolutionSearchConfig",
    "ExhaustiveSearchConfig",
    "FeatureConfig",
    "ForceAnnealScheduleConfig",
    "FrontendConfig",
    "JoinerConfig",
    "LayerSizes",
    "LayerSpaceConfig",
    "LossConfig",
    "LstmPredictorConfig",
    "MethodConfig",
    "MhSsmConfig",
    "ModelConfig",
    "MultiExitConfig",
    "MusanConfig",
    "Nsga2SearchConfig",
    "OptimizerConfig",
    "PhaseConfig",
    "PredictorConfig",
    "ProgressScheduleConfig",
    "RandomSearchConfig",
    "ScaledAdamConfig",
    "ScheduleConfig",
    "SearchConfig",
    "SearchSection",
    "Section",
    "SeparateConfig",
    "SlimmableConfig",
    "SpaceConfig",
    "SpecAugmentConfig",
    "StackFrontendConfig",
    "StatelessPredictorConfig",
    "TodmConfig",
    "TokenizerConfig",
    "TrainingConfig",
    "WidthSpaceConfig",
]


Seed = Annotated[int, Bounds(0, 2**63 - 1)]


class Config(Section):
    """One experiment. ``exp/<name>/config.yaml`` holds the resolved copy that later stages read."""

    name: Line
    seed: Seed = 42
    data: DataConfig
    features: FeatureConfig = FeatureConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    space: SpaceConfig = WidthSpaceConfig()
    method: MethodConfig = SlimmableConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    decoding: DecodingConfig = DecodingConfig()
    search: SearchConfig = ExhaustiveSearchConfig()

    @model_validator(mode="after")
    def _features_match(self) -> Config:
        if self.features.num_mel_bins != self.model.num_mel_bins:
            raise ValueError("model.num_mel_bins: must equal features.num_mel_bins")
        return self

    @model_validator(mode="after")
    def _schedules_are_defined(self) -> Config:
        phases = self.method.phases if self.method.kind == "todm" else []
        places = [("training.schedule", self.training.schedule)]
        places += [(f"method.phases.{number}.schedule", p.schedule) for number, p in enumerate(phases) if p.schedule]
        for place, schedule in places:
            if schedule.kind == "noam" and schedule.warmup == 0.0:
                raise ValueError(f"{place}.warmup: noam needs a fraction above 0")
            if schedule.kind == "tri_stage" and schedule.final_scale == 0.0:
                raise ValueError(f"{place}.final_scale: tri_stage decays exponentially and needs a value above 0")
        return self

    @model_validator(mode="after")
    def _auxiliary_layers_exist(self) -> Config:
        auxiliary, num_layers = self.loss.auxiliary, self.model.encoder.num_layers
        if auxiliary is not None and max(auxiliary.layers) > num_layers:
            raise ValueError(f"loss.auxiliary.layers: the encoder has {num_layers} layers (model.encoder.num_layers)")
        return self

    @model_validator(mode="after")
    def _teaching_happens(self) -> Config:
        """Settings that would be silently without effect are mistakes."""
        method, taught = self.method, self.loss.distillation is not None
        if method.kind != "todm":
            if taught:
                raise ValueError(f"loss.distillation: method {method.kind} has no teacher; set it to null")
            return self
        for phase in method.phases:
            if phase.epoch > self.training.num_epochs:
                last = f"training.num_epochs is {self.training.num_epochs}"
                raise ValueError(f"method.phases: {last}, so the phase of epoch {phase.epoch} would never begin")
            if phase.kd_weight is not None and not taught:
                raise ValueError("method.phases: kd_weight without loss.distillation has no effect")
        return self

    @model_validator(mode="after")
    def _exits_are_trained(self) -> Config:
        if self.method.kind != "multi_exit":
            return self
        space, model = self.space, self.model
        if not model.exits:
            raise ValueError("model.exits: method multi_exit needs at least one")
        if space.kind != "layers" or space.units or space.widths != [1.0]:
            raise ValueError("space: method multi_exit trains depths alone; give kind: layers and depths")
        if not set(space.depths) <= {*model.exits, model.encoder.num_layers}:
            raise ValueError("space.depths: method multi_exit trains only model.exits and the full depth")
        return self

    @model_validator(mode="after")
    def _space_fits(self) -> Config:
        space, encoder = self.space, self.model.encoder
        if space.kind != "layers":
            return self
        if max(space.depths) != encoder.num_layers:
            raise ValueError(f"space.depths: the largest must be model.encoder.num_layers, {encoder.num_layers}")
        for module, sizes in space.units.items():
            if module not in encoder.unit_sizes:
                known = ", ".join(encoder.unit_sizes)
                raise ValueError(f"space.units.{module}: a {encoder.kind} layer has no such module; it has {known}")
            if max(sizes) != encoder.unit_sizes[module]:
                full = encoder.unit_sizes[module]
                raise ValueError(f"space.units.{module}: the largest must be the encoder's own size, {full}")
        return self
