"""Attention of segments to a window around them, elastic in model width and in heads or head size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from slimasr.elastic.attention import Heads, MultiHead, Slimming
from slimasr.elastic.dropout import Dropout
from slimasr.elastic.emformer_layout import Layout, Window
from slimasr.elastic.index import take
from slimasr.supernet.cost import Count
from slimasr.supernet.subnet import Units

Position = Literal["none", "relative"]
Squash = Literal["tanh", "clamp"]

CLAMP = 10.0
"""Largest absolute value of a summary with ``clamp``."""


class Attended(NamedTuple):
    """The results of one call of `EmformerAttention`.

    Attributes:
        frames: (N, G, r + c, C) [copies | frames of the segment].
        memory: (N, G, C) a summary of every segment, for the next layer; (N, 0, C) without memory.
        cache: (N, 2, H, m + l, d_h) keys and values for the next chunk; None for whole utterances.
    """

    frames: Tensor
    memory: Tensor
    cache: Tensor | None


class EmformerAttention(MultiHead):
    """Self-attention of segments: to themselves, to frames before and behind them, to summaries of earlier segments.

    Whole utterances and chunks of streams run the same code: segments are a batch axis, each with its own window of
    keys (`Layout`), so the work is linear in the number of frames.

    With ``position: relative`` every head adds a learnt number to its scores for every distance between two frames,
    and for every age of a summary. At first these are ``-slope * distance``, where the slopes rise from 0 in the first
    head to 1 in the last. A summary takes the mean over the frames of its segment, as its query is the mean of theirs.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        head_dim: int,
        window: Window,
        *,
        position: Position = "none",
        squash: Squash = "tanh",
        slimming: Slimming = "head_count",
        dropout: float = 0.0,
        gain: float = 1.0,
    ) -> None:
        """Create the module with random weights.

        Args:
            position: whether scores depend on distances.
            squash: how summaries are bounded.
            slimming: what a width below 1 reduces.
            dropout: probability at the attention weights and at the output.
            gain: gain of the Xavier initialisation of queries, keys and values.
        """
        super().__init__(d_model, num_heads, head_dim, slimming)
        self.window = window
        self.position: Position = position
        self.squash: Squash = squash
        self.dropout = Dropout(dropout)
        for weight in self.in_proj.weight.data.chunk(3):
            nn.init.xavier_uniform_(weight, gain)
        if position == "relative":
            self.position_bias = nn.Parameter(_local_bias(num_heads, window))

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        layout: Layout,
        cache: Tensor | None,
        width: float,
        units: Units | None = None,
    ) -> Attended:
        """Attend from every segment to its window.

        Args:
            x: (N, G, r + c, C) [copies | frames of the segment].
            memory: (N, G, C) summaries of the segments by the layer below; (N, 0, C) without memory.
            layout: the windows; those of a chunk need a cache, those of whole utterances have none.
            cache: what the previous chunk returned, or `init_cache`.
        """
        n, groups, computed, outer = x.shape
        heads = self.chosen(width, units)
        rows = torch.cat([x, memory.unsqueeze(2)], dim=2) if self.window.memory else x
        # (N, G, rows, H, d_h) each; keys and values then come on one axis each, from which the windows are taken.
        projected, *new = self.project(rows, heads).unbind(3)
        before = (None, None) if cache is None else cache.unbind(1)
        axes = [_axis(own, cached) for own, cached in zip(new, before, strict=True)]
        keys, values = (_windows(axis, layout) for axis in axes)
        queries = self._queries(projected, layout).flatten(0, 2)
        by_segment = (n, heads.number, groups, self.window.rows)
        scores = torch.bmm(queries, keys.transpose(1, 2)).view(*by_segment, self.window.keys)
        if self.position == "relative":
            scores = scores + self._bias(heads, layout)
        # The smallest finite number gives a masked key a weight of exactly 0. With -inf, padded segments that have no
        # key at all would give NaN. In place, because no gradient needs the scores themselves.
        scores = scores.masked_fill_(layout.masked, torch.finfo(scores.dtype).min)
        weights = self.dropout(scores.softmax(dim=-1)).flatten(0, 2)
        context = torch.bmm(weights, values).view(*by_segment, heads.head_dim)
        # (N, H, G, Q, d_h) -> (N, G, Q, H * d_h), with the channels of a head together as in the rows of ``in_proj``
        context = context.permute(0, 2, 3, 1, 4).flatten(3)
        out = self.out_proj(context, out=outer, inp=heads.channels)
        summaries = self._squashed(out[:, :, computed:]).squeeze(2) if self.window.memory else memory
        return Attended(self.dropout(out[:, :, :computed]), summaries, _kept(axes, layout))

    def reweight_positions(self, heads: Tensor) -> dict[str, Tensor]:
        if self.position == "none":
            return {}
        return {"position_bias": self.position_bias * heads.unsqueeze(1)}

    def _queries(self, q: Tensor, layout: Layout) -> Tensor:
        """(N, G, rows, H, d_h) -> (N, H, G, Q, d_h), scaled by 1 / sqrt(d_h)."""
        frames = q[:, :, : self.window.computed]
        if self.window.memory:
            # A summary's query is that of the mean of its segment. The projection of a mean is the mean of projections.
            mean = layout.means(frames[:, :, self.window.right :])
            frames = torch.cat([frames, mean.unsqueeze(2)], dim=2)
        return frames.permute(0, 3, 1, 2, 4) * (1.0 / math.sqrt(q.shape[-1]))

    def _bias(self, heads: Heads, layout: Layout) -> Tensor:
        """Return the (H, 1, Q, K) position bias of the heads that run."""
        by_column = take(self.position_bias, heads.index)
        bias = by_column.index_select(1, layout.columns.flatten()).view(-1, 1, *layout.columns.shape)
        if not self.window.memory:
            return bias
        return torch.cat([bias, bias[:, :, self.window.right :].mean(dim=2, keepdim=True)], dim=2)

    def _squashed(self, summaries: Tensor) -> Tensor:
        return summaries.tanh() if self.squash == "tanh" else summaries.clamp(-CLAMP, CLAMP)

    def init_cache(self, n: int, width: float, units: Units | None, device: torch.device) -> Tensor:
        """Return the (n, 2, H, m + l, d_h) cache of ``n`` streams before their first frame."""
        heads = self.chosen(width, units)
        # Layouts mask entries that no frame has filled yet, so their values do not matter as long as they are finite.
        return torch.zeros(n, 2, heads.number, self.window.cached, heads.head_dim, device=device)

    def count(self, outer: int, width: float, units: Units | None, frames: int) -> Count:
        """Count the parameters, and the MACs of a stream of ``frames`` frames, segment by segment."""
        heads = self.chosen(width, units)
        rows = self.window.segments(frames) * self.window.rows
        total = self.count_projections(outer, heads, rows)
        # queries x keys, and weights x values
        total += Count(macs=2 * rows * self.window.keys * heads.total)
        if self.position == "relative":
            total += Count(params=heads.number * self.position_bias.shape[1])
        return total

    def extract(self, outer: int, width: float, units: Units | None) -> EmformerAttention:
        """Copy one subnet into a stand-alone module."""
        heads = self.chosen(width, units)
        module = EmformerAttention(
            outer,
            heads.number,
            heads.head_dim,
            self.window,
            position=self.position,
            squash=self.squash,
            slimming=self.slimming,
            dropout=self.dropout.p,
        )
        self.extract_projections(module, outer, heads)
        if self.position == "relative":
            with torch.no_grad():
                module.position_bias.copy_(take(self.position_bias, heads.index))
        return module


def _local_bias(num_heads: int, window: Window) -> Tensor:
    """Return the (H, distances + m) initial bias; columns as in `Layout.columns`."""
    distances = torch.arange(window.distances) - (window.computed - 1)
    # The distance of a segment's middle to that of an earlier segment
    ages = window.segment * (1 + torch.arange(window.memory))
    slopes = torch.linspace(0.0, 1.0, num_heads)
    return -slopes.unsqueeze(1) * torch.cat([distances.abs(), ages])


def _axis(new: Tensor, cached: Tensor | None) -> Tensor:
    """(N, G, rows, H, d_h) -> (N, H, keys, d_h): the axis of keys, see `Layout`."""
    by_head = new.permute(0, 3, 1, 2, 4).flatten(2, 3)
    return by_head if cached is None else torch.cat([cached.to(new.dtype), by_head], dim=2)


def _windows(axis: Tensor, layout: Layout) -> Tensor:
    """(N, H, keys, d_h) -> (N * H * G, K, d_h): batched products are fastest with a single batch dimension."""
    keys = layout.window.keys
    if layout.kept is not None and layout.segments == 1:
        # The window of a single segment behind a cache is the beginning of the axis, which needs no copy.
        return axis[:, :, :keys].flatten(0, 1)
    return axis.index_select(2, layout.places).view(-1, keys, axis.shape[-1])


def _kept(axes: Sequence[Tensor], layout: Layout) -> Tensor | None:
    """Return the part of the (N, H, keys, d_h) keys and values that the next chunk needs, as one tensor."""
    if layout.kept is None:
        return None
    n, heads, length, channels = axes[0].shape
    # Rows of (N * H * keys, d_h) are copied whole, which is faster than a gather along one dimension.
    starts = torch.arange(0, n * heads * length, length, device=layout.kept.device).view(n, heads, 1)
    places = (starts + layout.kept.unsqueeze(1)).flatten()
    kept = [axis.flatten(0, 2).index_select(0, places).view(n, heads, -1, channels) for axis in axes]
    return torch.stack(kept, dim=1)
