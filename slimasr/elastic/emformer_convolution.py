"""Convolution of the segments of an Emformer: over the past, with copies behind their own segment (paper 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from slimasr.elastic.conv_module import ConvModule
from slimasr.elastic.depthwise import causal
from slimasr.elastic.emformer_layout import Layout
from slimasr.elastic.index import size_of
from slimasr.elastic.norm import NormMode
from slimasr.supernet.subnet import Units, scaled


class Convolved(NamedTuple):
    """The results of one call of `SegmentConvolution`.

    Attributes:
        frames: (N, G, r + c, C) [copies | frames of the segment].
        cache: (N, k - 1, I) the inner channels of the last frames, for the next chunk; None for whole utterances.
    """

    frames: Tensor
    cache: Tensor | None


class SegmentConvolution(ConvModule):
    """The convolution module of an Emformer layer, whose filters see a frame and the k - 1 frames before it.

    The frames before a segment's first copy are those of this segment and of the ones before it, never other copies.
    So no output depends on more look-ahead than its segment has, at any number of layers. The norm is over the channels
    of a frame: statistics of a batch would not be those of a stream.
    """

    def __init__(
        self, d_model: int, channels: int, kernel_size: int, widths: Sequence[int], norm: NormMode, dropout: float
    ) -> None:
        """Create the module with random weights.

        Args:
            kernel_size: k, frames that a filter sees; any number from 1.
            widths: the numbers of inner channels, one per width of the space, that get their own norm.
            norm: whether norms are shared by widths.
        """
        super().__init__(d_model, channels, kernel_size, widths, norm, dropout, "layer")

    def forward(
        self, x: Tensor, layout: Layout, cache: Tensor | None, width: float, units: Units | None = None
    ) -> Convolved:
        """Convolve every segment and its copies with the past of the segment.

        Args:
            x: (N, G, r + c, C) [copies | frames of the segment].
            layout: the segments; those of a chunk need a cache, those of whole utterances have none.
            cache: what the previous chunk returned, or `init_cache`.
        """
        window = layout.window
        chosen = self.chosen(width, units)
        inner = self.before_filters(x, width, units)
        copies, own = inner.split((window.right, window.segment), dim=2)
        frames = own.flatten(1, 2)
        # Before the first frame of an utterance there is silence, as in a new cache.
        past = (
            frames.new_zeros(x.shape[0], window.history, frames.shape[2]) if cache is None else cache.to(frames.dtype)
        )
        axis = torch.cat([past, frames], dim=1)
        weight, bias = self.depthwise.filters(chosen)
        # In a graph for whole utterances the number of segments is not known.
        if layout.recent is not None and layout.segments == 1:
            filtered = _filter_segment(axis, copies, weight, bias)
        else:
            filtered = _filter_segments(axis, copies, weight, bias, window.segment)
        normed = self.norm(filtered, scaled(self.channels, width), chosen)
        return Convolved(self.after_norm(normed, x.shape[-1], width, units), _kept(axis, layout))

    def init_cache(self, n: int, width: float, units: Units | None, device: torch.device) -> Tensor:
        """Return the (n, k - 1, I) cache of ``n`` streams before their first frame."""
        return torch.zeros(n, self.depthwise.kernel_size[0] - 1, size_of(self.chosen(width, units)), device=device)

    def of_size(self, d_model: int, channels: int) -> SegmentConvolution:
        kernel = self.depthwise.kernel_size[0]
        return SegmentConvolution(d_model, channels, kernel, (channels,), self.norm.mode, self.dropout.p)


def _filter_segment(axis: Tensor, copies: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Filter one segment: (N, k - 1 + c, I) and (N, 1, r, I) -> (N, 1, r + c, I) [copies | frames].

    The frames and their copies follow each other, which one convolution computes.
    """
    right = copies.shape[2]
    out = causal(torch.cat([axis, copies.squeeze(1)], dim=1), weight, bias)
    own, behind = out.split((out.shape[1] - right, right), dim=1)
    return torch.cat([behind, own], dim=1).unsqueeze(1)


def _filter_segments(axis: Tensor, copies: Tensor, weight: Tensor, bias: Tensor, segment: int) -> Tensor:
    """Filter any number of segments: (N, k - 1 + G c, I) and (N, G, r, I) -> (N, G, r + c, I) [copies | frames].

    A copy's filter is a sum of two: over the frames before the first copy, which is a convolution in steps of c, and
    over copies. To lay out the past of every segment separately takes several times as long.
    """
    taps = weight.shape[2]
    own = causal(axis, weight, bias).unflatten(1, (-1, segment))
    behind = []
    for number in range(copies.shape[2]):
        total = bias
        for age in range(min(number + 1, taps)):
            total = total + copies[:, :, number - age] * weight[:, 0, taps - 1 - age]
        # Filters that are shorter than the number of copies see no frame before these.
        if number < taps - 1:
            total = total + causal(axis[:, segment + number :], weight[:, :, : taps - 1 - number], None, segment)
        behind.append(total)
    return torch.cat([torch.stack(behind, dim=2), own], dim=2) if behind else own


def _kept(axis: Tensor, layout: Layout) -> Tensor | None:
    """Return the (N, k - 1, I) frames that the next chunk needs."""
    if layout.recent is None:
        return None
    n, length, channels = axis.shape
    # Rows of (N * length, I) are copied whole, which is faster than a gather along one dimension.
    starts = torch.arange(0, n * length, length, device=axis.device).unsqueeze(1)
    return axis.flatten(0, 1).index_select(0, (starts + layout.recent).flatten()).view(n, -1, channels)
