"""A training-only head that classifies the token of each frame from a hidden state of the encoder."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from slimasr.elastic.linear import ElasticLinear


class FrameHead(nn.Module):
    """``W2 relu(W1 x)`` (paper 2, baseline A2). Only its input is elastic.

    No stand-alone model contains it, so it has neither `count` nor `extract`.
    """

    def __init__(self, input_dim: int, hidden_dim: int, vocab_size: int) -> None:
        super().__init__()
        self.inner = ElasticLinear(input_dim, hidden_dim)
        self.outer = ElasticLinear(hidden_dim, vocab_size)

    def forward(self, x: Tensor, width: int) -> Tensor:
        """(N, T, width) -> (N, T, V) scores; ``width`` is the residual width of the subnet."""
        return cast(Tensor, self.outer(F.relu(self.inner(x, inp=width))))
