"""The joiner: combines encoder and predictor into scores over the vocabulary. Only its input side is elastic."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimasr.config.schema import JoinerConfig
from slimasr.elastic.linear import ElasticLinear
from slimasr.supernet.cost import Count


class Joiner(nn.Module):
    """``W act(A encoder_out + B predictor_out)`` (paper 1, joint network).

    The projections A and B are calls of their own, so that search loops and pruned losses run each only once per
    frame or label.
    """

    def __init__(self, config: JoinerConfig, encoder_dim: int, predictor_dim: int, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.encoder_proj = ElasticLinear(encoder_dim, config.dim)
        self.predictor_proj = ElasticLinear(predictor_dim, config.dim)
        self.output = ElasticLinear(config.dim, vocab_size)

    def project_encoder(self, encoder_out: Tensor, width: int) -> Tensor:
        """(..., width) -> (..., J)."""
        return cast(Tensor, self.encoder_proj(encoder_out, inp=width))

    def project_predictor(self, predictor_out: Tensor) -> Tensor:
        """(..., P) -> (..., J)."""
        return cast(Tensor, self.predictor_proj(predictor_out))

    def forward(self, am: Tensor, lm: Tensor) -> Tensor:
        """Projected encoder and predictor outputs, shapes that broadcast to (..., J) -> (..., V) logits."""
        hidden = am + lm
        if self.config.activation == "tanh":
            hidden = torch.tanh(hidden)
        elif self.config.activation == "relu":
            hidden = F.relu(hidden)
        return cast(Tensor, self.output(hidden))

    def count(self, width: int, frames: int) -> Count:
        """Size, and work of one call per encoder frame; the predictor's projection is left out of the work."""
        dim, vocab_size = self.config.dim, self.output.out_features
        return (
            self.encoder_proj.count(dim, width, frames)
            + self.predictor_proj.count(dim, self.predictor_proj.in_features, 0)
            + self.output.count(vocab_size, dim, frames)
        )

    def extract(self, width: int) -> Joiner:
        """A stand-alone joiner."""
        predictor_dim, vocab_size = self.predictor_proj.in_features, self.output.out_features
        joiner = Joiner(self.config, width, predictor_dim, vocab_size)
        joiner.encoder_proj = self.encoder_proj.extract(inp=width)
        joiner.predictor_proj = self.predictor_proj.extract()
        joiner.output = self.output.extract()
        return joiner
