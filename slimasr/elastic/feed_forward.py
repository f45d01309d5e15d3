"""The feed-forward module, elastic in model width and in hidden units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from slimasr.elastic.dropout import Dropout, drop
from slimasr.elastic.gates import Side, per_unit, shared_gate
from slimasr.elastic.index import Index, IndexTable, choose, size_of
from slimasr.elastic.linear import ElasticLinear
from slimasr.supernet.cost import Count
from slimasr.supernet.subnet import Units, scaled

Activation = Literal["silu", "gelu"]


class ElasticFeedForward(nn.Module):
    """``Drop(W2 Drop(act(W1 x)))``; its units are the hidden channels.

    The activation is SiLU (Swish) in paper 1 and GELU in paper 2. With ``adaptive`` dropout, the probability at the
    hidden channels is scaled by the fraction of them that runs, ``p(c) = p c / m`` (paper 2, section 3.3), because a
    narrow slice needs less dropout.
    """

    def __init__(
        self, d_model: int, hidden: int, dropout: float, activation: Activation = "silu", *, adaptive: bool = False
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.activation: Activation = activation
        self.adaptive = adaptive
        self.inner = ElasticLinear(d_model, hidden)
        self.outer = ElasticLinear(hidden, d_model)
        self.dropout = Dropout(dropout)
        self.indices = IndexTable()

    def chosen(self, width: float, units: Units | None) -> Index:
        """Return the hidden channels that run at a width."""
        return self.indices.get(
            (width, units), self.inner.weight.device, lambda: choose(scaled(self.hidden, width), units)
        )

    def forward(self, x: Tensor, width: float, units: Units | None = None) -> Tensor:
        """(N, T, C) -> (N, T, C)."""
        channels = x.shape[-1]
        hidden = self.chosen(width, units)
        inner = self.inner(x, out=hidden, inp=channels)
        inner = F.silu(inner) if self.activation == "silu" else F.gelu(inner)
        # The functional form, because the probability depends on the slice.
        inner = drop(inner, self.hidden_dropout(hidden), self.training)
        return self.dropout(self.outer(inner, out=channels, inp=hidden))

    def hidden_dropout(self, hidden: Index) -> float:
        """Return the dropout probability for the hidden channels that run."""
        if not self.adaptive:
            return self.dropout.p
        return self.dropout.p * size_of(hidden) / self.hidden

    def reweight(self, gates: Tensor, ranges: Sequence[tuple[int, int]], side: Side) -> dict[str, Tensor]:
        """Return the parameters scaled by the (G,) gates of groups of hidden channels (see `per_unit`).

        A gate scales the rows of W1 with their biases, unless ``side`` is ``output``, and the columns of W2.
        """
        hidden = per_unit(gates, ranges, self.hidden)
        scaled_parameters = {
            "outer.weight": self.outer.weight * hidden,
            "outer.bias": self.outer.bias * shared_gate(gates),
        }
        if side == "both":
            scaled_parameters["inner.weight"] = self.inner.weight * hidden.unsqueeze(1)
            scaled_parameters["inner.bias"] = self.inner.bias * hidden
        return scaled_parameters

    def count(self, channels: int, width: float, units: Units | None, frames: int) -> Count:
        """Count the parameters, and the MACs of ``frames`` frames."""
        hidden = size_of(self.chosen(width, units))
        return self.inner.count(hidden, channels, frames) + self.outer.count(channels, hidden, frames)

    def extract(self, channels: int, width: float, units: Units | None) -> ElasticFeedForward:
        """Copy one subnet into a stand-alone module."""
        hidden = self.chosen(width, units)
        module = ElasticFeedForward(channels, size_of(hidden), self.dropout.p, self.activation, adaptive=self.adaptive)
        module.inner = self.inner.extract(hidden, channels)
        module.outer = self.outer.extract(channels, hidden)
        return module
