"""The typed schema of a recipe: one YAML file per experiment, every key of which is checked and named in errors.

Lengths are in seconds unless the name says frames. Parts of the run are fractions of all optimiser steps. Sizes are
those of the max subnet. Each section has a module of its own, from which others import it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import model_validator

from slimasr.config.data import DataConfig, FeatureConfig, LanguageModelConfig, TokenizerConfig
from slimasr.config.loss import LossConfig
from slimasr.config.method import MethodConfig, SlimmableConfig
from slimasr.config.model import ModelConfig, TransducerConfig
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
    """Acoustic features, which stage 2 computes."""

    tokenizer: TokenizerConfig = TokenizerConfig()
    """Units of transcripts, which stage 3 makes."""

    language_model: LanguageModelConfig = LanguageModelConfig()
    """N-gram model of words in the search graph, which stage 3 makes."""

    model: ModelConfig = TransducerConfig()
    """The transducer or CTC model at the size of the max subnet."""

    space: SpaceConfig = WidthSpaceConfig()
    """Subnets for which the supernet is trained."""

    method: MethodConfig = SlimmableConfig()
    """Training method of the subnets."""

    loss: LossConfig = LossConfig()
    """Losses that training minimises."""

    training: TrainingConfig = TrainingConfig()
    """Length, optimiser and checkpoints of the run."""

    decoding: DecodingConfig = DecodingConfig()
    """Search for the tokens of an utterance."""

    search: SearchConfig = ExhaustiveSearchConfig()
    """Choice and evaluation of subnets after training."""

    @model_validator(mode="after")
    def _sections_fit(self) -> Config:
        """Let each section check what it needs of the others."""
        # Only now are all sections known. The first section that finds a mistake names it.
        for name in type(self).model_fields:
            section = getattr(self, name)
            if isinstance(section, Section):
                section.check(self)
        return self
