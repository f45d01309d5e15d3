"""The typed schema of a recipe: one YAML per experiment, every key checked and named in errors.

Lengths in seconds unless the name says frames; shares are fractions of all optimiser steps. Sizes are those of
the max subnet. Each section lives in a module of its own, from which others import it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import model_validator

from slimasr.config.data import DataConfig, FeatureConfig, TokenizerConfig
from slimasr.config.loss import LossConfig
from slimasr.config.method import MethodConfig, SlimmableConfig
from slimasr.config.model import ModelConfig
from slimasr.config.search import DecodingConfig, ExhaustiveSearchConfig, SearchConfig
from slimasr.config.section import Bounds, Line, Section
from slimasr.config.space import SpaceConfig, WidthSpaceConfig
from slimasr.config.training import TrainingConfig

Seed = Annotated[int, Bounds(0, 2**63 - 1)]


class Config(Section):
    """One experiment. ``exp/<name>/config.yaml`` holds the resolved copy that later stages read."""

    name: Line
    """Name of the experiment in results and reports, and in the database of its search."""

    seed: Seed = 42
    """Seed of everything random; at most 2^63 - 1."""

    data: DataConfig
    """Corpus, sets and batches."""

    features: FeatureConfig = FeatureConfig()
    """Acoustic features."""

    tokenizer: TokenizerConfig = TokenizerConfig()
    """Subword model."""

    model: ModelConfig = ModelConfig()
    """The transducer."""

    space: SpaceConfig = WidthSpaceConfig()
    """Which subnets the supernet is trained for."""

    method: MethodConfig = SlimmableConfig()
    """How the subnets are trained."""

    loss: LossConfig = LossConfig()
    """What is minimised."""

    training: TrainingConfig = TrainingConfig()
    """Length, optimiser and checkpoints of the run."""

    decoding: DecodingConfig = DecodingConfig()
    """How speech is turned into labels."""

    search: SearchConfig = ExhaustiveSearchConfig()
    """Which subnets are evaluated after training, and how."""

    @model_validator(mode="after")
    def _sections_fit(self) -> Config:
        """Each section says itself what it needs of the others."""
        for name in type(self).model_fields:
            section = getattr(self, name)
            if isinstance(section, Section):
                section.check(self)
        return self
