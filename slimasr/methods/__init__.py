"""Training methods, one module each, and the table that finds them by name."""

from __future__ import annotations

from slimasr.config.schema import Config
from slimasr.methods.base import Method
from slimasr.methods.multi_exit import MultiExit
from slimasr.methods.separate import Separate
from slimasr.methods.slimmable import Slimmable
from slimasr.methods.todm import Todm
from slimasr.objective.objective import loss_weights
from slimasr.supernet.space import SearchSpace


def build_method(config: Config, space: SearchSpace) -> Method:
    """The method that a recipe names under ``method.kind``."""
    losses = loss_weights(config.loss)
    if config.method.kind == "todm":
        return Todm(space, losses, config.method, config.loss.distillation)
    if config.method.kind == "multi_exit":
        return MultiExit(space, losses, config.model.exits, config.method)
    if config.method.kind == "slimmable":
        return Slimmable(space, losses, config.method.share_predictor)
    return Separate(space, losses)
