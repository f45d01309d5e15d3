"""The joiner combines encoder and predictor into scores over the vocabulary; only its encoder side is elastic."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimasr.config.model import JoinerConfig
from slimasr.elastic.linear import ElasticLinear
from slimasr.elastic.norm import ElasticLayerNorm
from slimasr.supernet.cost import Count


class GatedProjection(nn.Module):
    """``LN(relu(W x + b))``, the projection of the encoder's output at an exit (paper 2, baseline A3)."""

    def __init__(self, input_dim: int, dim: int) -> None:
        super().__init__()
        self.linear = ElasticLinear(input_dim, dim)
        # The output has the joiner's dimension at every width, so one norm serves all of them.
        self.norm = ElasticLayerNorm(dim, (dim,), "shared")

    def forward(self, x: Tensor, inp: int) -> Tensor:
        """(..., inp) -> (..., J)."""
        return cast(Tensor, self.norm(F.relu(self.linear(x, inp=inp))))

    def count(self, out: int, inp: int, calls: int) -> Count:
        """Count parameters and MACs, with the arguments of `ElasticLinear.count`."""
        return self.linear.count(out, inp, calls) + self.norm.count(out)

    def extract(self, inp: int) -> GatedProjection:
        """Copy the projection of the first ``inp`` channels into a stand-alone one."""
        dim = self.linear.out_features
        projection = GatedProjection(inp, dim)
        projection.linear = self.linear.extract(inp=inp)
        projection.norm = self.norm.extract(dim)
        return projection


Projection = ElasticLinear | GatedProjection
"""What maps the encoder's output to the joiner: both have `count` and `extract` with the same arguments."""


def _tanh(x: Tensor) -> Tensor:
    """Compute tanh; in inference mode in place as ``2 sigmoid(2x) - 1``, which takes a third of the time on a CPU."""
    if torch.is_inference_mode_enabled():
        return x.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0)
    return torch.tanh(x)


class Joiner(nn.Module):
    """``W act(A encoder_out + B predictor_out)`` (paper 1, joint network).

    The projections A and B are separate calls, so that search loops and pruned losses run each only once per frame or
    label. Some subnets have their own A: see `Transducer.project_encoder`.
    """

    encoder_proj: Projection

    def __init__(self, config: JoinerConfig, encoder_dim: int, predictor_dim: int, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        kind = GatedProjection if config.projection == "gated" else ElasticLinear
        self.encoder_proj = kind(encoder_dim, config.dim)
        self.predictor_proj = ElasticLinear(predictor_dim, config.dim)
        self.output = ElasticLinear(config.dim, vocab_size)

    def project_predictor(self, predictor_out: Tensor) -> Tensor:
        """(..., P) -> (..., J)."""
        return cast(Tensor, self.predictor_proj(predictor_out))

    def forward(self, am: Tensor, lm: Tensor) -> Tensor:
        """Compute (..., V) logits.

        Args:
            am: projected encoder output.
            lm: projected predictor output; both shapes broadcast to (..., J).
        """
        # A new tensor, which `_tanh` may overwrite
        hidden = am + lm
        if self.config.activation == "tanh":
            hidden = _tanh(hidden)
        elif self.config.activation == "relu":
            hidden = F.relu(hidden)
        return cast(Tensor, self.output(hidden))

    def count(self, width: int, frames: int, projection: Projection | None = None) -> Count:
        """Count the parameters, and the MACs of one call per encoder frame, without the predictor's projection.

        Args:
            width: residual width of the subnet.
            frames: number of encoder frames.
            projection: the projection of the encoder's output; None = the joiner's own.
        """
        dim = self.config.dim
        vocab_size = self.output.out_features
        return (
            (projection or self.encoder_proj).count(dim, width, frames)
            # no calls: it runs once per token, which `Transducer.count` adds to the predictor
            + self.predictor_proj.count(dim, self.predictor_proj.in_features, 0)
            + self.output.count(vocab_size, dim, frames)
        )

    def extract(self, config: JoinerConfig, width: int, projection: Projection | None = None) -> Joiner:
        """Copy the joiner into a stand-alone one.

        Args:
            config: configuration of the stand-alone joiner.
            width: see `count`.
            projection: see `count`.
        """
        predictor_dim = self.predictor_proj.in_features
        vocab_size = self.output.out_features
        joiner = Joiner(config, width, predictor_dim, vocab_size)
        joiner.encoder_proj = (projection or self.encoder_proj).extract(inp=width)
        joiner.predictor_proj = self.predictor_proj.extract()
        joiner.output = self.output.extract()
        return joiner
