"""Build the model of a recipe's configuration, of any kind."""

from __future__ import annotations

from collections.abc import Sequence

from slimasr.config.loss import LossConfig
from slimasr.config.model import CtcConfig, ModelConfig
from slimasr.config.schema import Config
from slimasr.errors import UserError
from slimasr.models.base import SpeechModel
from slimasr.models.ctc import CtcModel
from slimasr.models.heads import all_names
from slimasr.models.transducer import Transducer
from slimasr.supernet.pathways import PathwaySpec
from slimasr.supernet.subnet import Subnet


def build_model(
    config: ModelConfig,
    loss: LossConfig | None,
    vocab_size: int,
    widths: Sequence[float],
    heads: Sequence[str] = (),
    pathways: PathwaySpec | None = None,
) -> SpeechModel:
    """Build a model with random weights.

    Args:
        config: sizes of the max subnet; its ``kind`` chooses the class.
        loss: decides which training-only heads exist; None = no such heads.
        vocab_size: number of tokens, blank included.
        widths: fractions that get their own norms.
        heads: names of outputs besides the main one and those of ``config.exits`` (`head_names`).
        pathways: the pathways of the model, which keep everything at first (`pathway_spec`); None = it has none.

    Raises:
        UserError: a number of channels is not whole at some width, or no matrix is as large as a block of the pathways.
    """
    model: SpeechModel
    try:
        if isinstance(config, CtcConfig):
            model = CtcModel(config, vocab_size, widths, loss, heads)
        else:
            model = Transducer(config, vocab_size, widths, loss, heads)
    except ValueError as error:
        raise UserError(f"space.widths: {error}; change the width or the model's sizes") from None
    if pathways is not None:
        try:
            model.add_pathways(pathways)
        except ValueError as error:
            raise UserError(f"space.block: {error}; choose smaller blocks") from None
    return model


def head_names(config: Config) -> tuple[str, ...]:
    """Return the names of the heads besides the main one: the model's exits, then those that the method needs."""
    return all_names(config.model, config.method.heads)


def pathway_spec(config: Config) -> PathwaySpec | None:
    """Return the pathways of a recipe's model; None if its space has none."""
    if config.space.kind != "pathways":
        return None
    return PathwaySpec(tuple(config.space.languages), config.space.block)


def shrink_model_config(config: ModelConfig, subnet: Subnet) -> ModelConfig:
    """Return the configuration of a subnet's stand-alone model."""
    kind = CtcModel if isinstance(config, CtcConfig) else Transducer
    return kind.shrink(config, subnet)
