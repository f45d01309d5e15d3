"""Training methods, one module each, and the table that finds them by the section of a recipe."""

from __future__ import annotations

from slimasr.config.method import (
    CollaborativeConfig,
    MaskLearningConfig,
    MethodSection,
    MultiExitConfig,
    SeparateConfig,
    SlimmableConfig,
    TodmConfig,
)
from slimasr.config.pathways import PathwaysConfig
from slimasr.config.schema import Config
from slimasr.methods.base import Method
from slimasr.methods.collaborative import Collaborative
from slimasr.methods.mask_learning import MaskLearning
from slimasr.methods.multi_exit import MultiExit
from slimasr.methods.pathways import PathwayTraining
from slimasr.methods.separate import Separate
from slimasr.methods.slimmable import Slimmable
from slimasr.methods.todm import Todm
from slimasr.models.base import SpeechModel
from slimasr.supernet.space import SearchSpace

METHODS: dict[str, tuple[type[MethodSection], type[Method]]] = {
    "slimmable": (SlimmableConfig, Slimmable),
    "todm": (TodmConfig, Todm),
    "multi_exit": (MultiExitConfig, MultiExit),
    "collaborative": (CollaborativeConfig, Collaborative),
    "mask_learning": (MaskLearningConfig, MaskLearning),
    "pathways": (PathwaysConfig, PathwayTraining),
    "separate": (SeparateConfig, Separate),
}
"""``method.kind`` -> the section of the recipe and the class that it configures."""


def method_class(config: Config) -> type[Method]:
    """Return the class of the method that a recipe names under ``method.kind``."""
    section, method = METHODS[config.method.kind]
    assert isinstance(config.method, section)
    return method


def build_method(config: Config, space: SearchSpace, model: SpeechModel) -> Method:
    """Build the method that a recipe names under ``method.kind``.

    Raises:
        UserError: a setting fits neither the search space nor the model.
    """
    return method_class(config).for_model(config, space, model)


def resolve_config(config: Config) -> tuple[Config, str | None]:
    """Return the configuration that is trained, and the id of the subnet whose stand-alone model it describes, if any.

    Raises:
        UserError: a setting of the method does not fit the search space.
    """
    return method_class(config).resolve(config)
