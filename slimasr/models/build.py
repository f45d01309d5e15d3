"""Build the model of a recipe's configuration."""

from __future__ import annotations

from collections.abc import Sequence

from slimasr.config.loss import LossConfig
from slimasr.config.model import ModelConfig
from slimasr.errors import UserError
from slimasr.models.transducer import Transducer, shrink_model_config

__all__ = ["build_model", "shrink_model_config"]


def build_model(config: ModelConfig, loss: LossConfig | None, vocab_size: int, widths: Sequence[float]) -> Transducer:
    """Build a model with random weights; ``loss=None`` omits the training-only heads.

    Raises:
        UserError: a number of channels is not whole at some width.
    """
    try:
        return Transducer(config, vocab_size, widths, loss)
    except ValueError as error:
        raise UserError(f"space.widths: {error}; change the width or the model's sizes") from None
