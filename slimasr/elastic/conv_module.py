"""The convolution modules of a Conformer and of its relatives, elastic in model width and in channels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from slimasr.elastic.dropout import Dropout
from slimasr.elastic.gates import Side, per_unit, shared_gate
from slimasr.elastic.index import Index, IndexTable, choose, in_groups, size_of
from slimasr.elastic.linear import ElasticDepthwiseConv1d, ElasticLinear
from slimasr.elastic.norm import ElasticBatchNorm, ElasticLayerNorm, NormMode
from slimasr.supernet.cost import Count
from slimasr.supernet.subnet import Units, scaled

ConvNorm = Literal["batch", "layer"]


class ConvModule(nn.Module, ABC):
    """``Drop(PW2(Swish(Norm(DW(GLU(PW1 x))))))``; its units are the inner channels.

    The norm is a batch norm (paper 1) or a layer norm over the inner channels that run (papers 4 and 5). The rows of
    PW1 are [value half | gate half], and each half is sliced separately, so that a channel keeps its gate at every size
    (paper 1). A subclass says which frames the filters DW see.
    """

    def __init__(
        self,
        d_model: int,
        channels: int,
        kernel_size: int,
        widths: Sequence[int],
        norm: NormMode,
        dropout: float,
        conv_norm: ConvNorm = "batch",
    ) -> None:
        """Create the module with random weights.

        Args:
            widths: the numbers of inner channels, one per width of the space, that get their own norm.
            norm: whether norms are shared by widths.
            conv_norm: what the norm is over.
        """
        super().__init__()
        self.channels = channels
        self.gated = ElasticLinear(d_model, 2 * channels)
        self.depthwise = ElasticDepthwiseConv1d(channels, kernel_size)
        self.norm: ElasticBatchNorm | ElasticLayerNorm
        if conv_norm == "batch":
            self.norm = ElasticBatchNorm(channels, widths, norm)
        else:
            self.norm = ElasticLayerNorm(channels, widths, norm)
        self.pointwise = ElasticLinear(channels, d_model)
        self.dropout = Dropout(dropout)
        self.indices = IndexTable()

    def chosen(self, width: float, units: Units | None) -> Index:
        """Return the inner channels that run at a width."""
        limit = scaled(self.channels, width)
        return self.indices.get((width, units), self.gated.weight.device, lambda: choose(limit, units))

    def _gated_rows(self, width: float, units: Units | None) -> Index:
        """Return the rows of PW1 that run at a width."""
        inner = self.chosen(width, units)
        device = self.gated.weight.device
        return self.indices.get(("gated", width, units), device, lambda: in_groups(inner, 2, self.channels))

    def before_filters(self, x: Tensor, width: float, units: Units | None) -> Tensor:
        """(..., C) -> (..., I): the inner channels that run, ``GLU(PW1 x)``."""
        return F.glu(self.gated(x, out=self._gated_rows(width, units), inp=x.shape[-1]), dim=-1)

    def after_norm(self, x: Tensor, outer: int, width: float, units: Units | None) -> Tensor:
        """(..., I) -> (..., C): ``Drop(PW2(Swish(x)))``, to so many ``outer`` channels."""
        return cast(Tensor, self.dropout(self.pointwise(F.silu(x), out=outer, inp=self.chosen(width, units))))

    @abstractmethod
    def of_size(self, d_model: int, channels: int) -> ConvModule:
        """Return a module of other sizes with random weights and the same settings, with a norm for one width."""

    def reweight(self, gates: Tensor, ranges: Sequence[tuple[int, int]], side: Side) -> dict[str, Tensor]:
        """Return the parameters scaled by the (G,) gates of groups of inner channels (see `per_unit`).

        A gate scales columns of PW2 alone, whatever the ``side``: the norm before them would undo any other scale.
        """
        inner = per_unit(gates, ranges, self.channels)
        return {
            "pointwise.weight": self.pointwise.weight * inner,
            "pointwise.bias": self.pointwise.bias * shared_gate(gates),
        }

    def count(self, outer: int, width: float, units: Units | None, frames: int) -> Count:
        """Count the parameters, and the MACs of ``frames`` frames."""
        inner = size_of(self.chosen(width, units))
        return (
            self.gated.count(2 * inner, outer, frames)
            + self.depthwise.count(inner, frames)
            + self.norm.count(inner)
            + self.pointwise.count(outer, inner, frames)
        )

    def extract(self, outer: int, width: float, units: Units | None) -> ConvModule:
        """Copy one subnet into a stand-alone module."""
        limit = scaled(self.channels, width)
        inner = self.chosen(width, units)
        module = self.of_size(outer, size_of(inner))
        module.gated = self.gated.extract(self._gated_rows(width, units), outer)
        module.depthwise = self.depthwise.extract(inner)
        module.norm = self.norm.extract(limit, inner)
        module.pointwise = self.pointwise.extract(outer, inner)
        return module


class ElasticConvModule(ConvModule):
    """The module of a Conformer, whose filters see as many frames before a frame as behind it."""

    def forward(self, x: Tensor, padding: Tensor, width: float, units: Units | None = None) -> Tensor:
        """(N, T, C) -> (N, T, C); ``padding`` (N, T) is True on padding, which is excluded from sums and statistics."""
        # The norm is selected by the channels that the width allows, not by those that ``units`` chooses.
        limit = scaled(self.channels, width)
        inner = self.chosen(width, units)
        hidden = self.before_filters(x, width, units)
        # The filters would carry padding into the last valid frames: the biases before make it nonzero.
        hidden = hidden.masked_fill(padding.unsqueeze(-1), 0.0)
        hidden = self.depthwise(hidden, inner)
        if isinstance(self.norm, ElasticBatchNorm):
            hidden = self.norm(hidden, padding, limit, inner)
        else:
            hidden = self.norm(hidden, limit, inner)
        return self.after_norm(hidden, x.shape[-1], width, units)

    @property
    def conv_norm(self) -> ConvNorm:
        """What the norm is over."""
        return "batch" if isinstance(self.norm, ElasticBatchNorm) else "layer"

    def of_size(self, d_model: int, channels: int) -> ElasticConvModule:
        kernel = self.depthwise.kernel_size[0]
        return ElasticConvModule(d_model, channels, kernel, (channels,), self.norm.mode, self.dropout.p, self.conv_norm)
