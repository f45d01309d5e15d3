"""The Conformer's feed-forward module, elastic in model width and in hidden units."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from slimasr.elastic.index import Index, choose, scaled, size_of
from slimasr.elastic.linear import ElasticLinear
from slimasr.supernet.cost import Count
from slimasr.supernet.subnet import Units


class ElasticFeedForward(nn.Module):
    """``Drop(W2 Drop(Swish(W1 x)))`` (paper 1), the hidden channels being its units."""

    def __init__(self, d_model: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.hidden = hidden
        self.inner = ElasticLinear(d_model, hidden)
        self.outer = ElasticLinear(hidden, d_model)
        self.dropout = nn.Dropout(dropout)

    def chosen(self, width: float, units: Units | None) -> Index:
        """Hidden channels that run at a width."""
        return choose(scaled(self.hidden, width), units)

    def forward(self, x: Tensor, width: float, units: Units | None = None) -> Tensor:
        """(N, T, C) -> (N, T, C)."""
        channels, hidden = x.shape[-1], self.chosen(width, units)
        inner = self.dropout(F.silu(self.inner(x, out=hidden, inp=channels)))
        return self.dropout(self.outer(inner, out=channels, inp=hidden))

    def count(self, channels: int, width: float, units: Units | None, frames: int) -> Count:
        """Size and work on ``frames`` frames."""
        hidden = size_of(self.chosen(width, units))
        return self.inner.count(hidden, channels, frames) + self.outer.count(channels, hidden, frames)

    def extract(self, channels: int, width: float, units: Units | None) -> ElasticFeedForward:
        """A stand-alone module."""
        hidden = self.chosen(width, units)
        module = ElasticFeedForward(channels, size_of(hidden), self.dropout.p)
        module.inner = self.inner.extract(hidden, channels)
        module.outer = self.outer.extract(channels, hidden)
        return module
