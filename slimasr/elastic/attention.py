"""Multi-head self-attention, elastic in model width and in heads or head size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from slimasr.elastic.dropout import Dropout
from slimasr.elastic.gates import Side, per_unit, shared_gate
from slimasr.elastic.index import Index, IndexTable, choose, in_blocks, in_groups, size_of, take
from slimasr.elastic.linear import ElasticLinear
from slimasr.supernet.cost import Count
from slimasr.supernet.subnet import Units, scaled

Slimming = Literal["head_count", "head_size"]


@dataclass(frozen=True)
class Heads:
    """The attention heads of a subnet: which ones run, their size, their channels, and their rows of ``in_proj``."""

    index: Index
    head_dim: int
    channels: Index
    rows: Index

    @property
    def number(self) -> int:
        """Number of heads that run."""
        return size_of(self.index)

    @property
    def total(self) -> int:
        """Total number of channels of the heads that run."""
        return self.number * self.head_dim


class MultiHead(nn.Module):
    """The projections of every attention, from frames to the queries, keys and values of several heads, and back.

    A width keeps the first heads as a whole (``head_count``) or the first channels of every head (``head_size``); the
    scale of the scores depends on the current head size.

    Rows of ``in_proj`` are [q | k | v], each of them with the heads in order and the channels of a head together.
    """

    def __init__(self, d_model: int, num_heads: int, head_dim: int, slimming: Slimming) -> None:
        """Create the projections with random weights.

        Args:
            slimming: what a width below 1 reduces.
        """
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.slimming = slimming
        inner = num_heads * head_dim
        self.in_proj = ElasticLinear(d_model, 3 * inner)
        self.out_proj = ElasticLinear(inner, d_model)
        self.indices = IndexTable()

    def chosen(self, width: float, units: Units | None) -> Heads:
        """Return the heads that run at a width."""
        return self.indices.get((width, units), self.in_proj.weight.device, lambda: self._heads(width, units))

    def _heads(self, width: float, units: Units | None) -> Heads:
        if self.slimming == "head_count":
            index = choose(scaled(self.num_heads, width), units)
            head_dim = self.head_dim
        else:
            # Every head runs, so ``units`` chooses out of all heads, and the width shortens each of them.
            index = choose(self.num_heads, units)
            head_dim = scaled(self.head_dim, width)
        channels = in_blocks(index, self.head_dim, head_dim)
        return Heads(index, head_dim, channels, in_groups(channels, 3, self.num_heads * self.head_dim))

    def project(self, x: Tensor, heads: Heads) -> Tensor:
        """(..., C) -> (..., 3, H, d_h): queries, keys and values of the heads that run."""
        qkv = self.in_proj(x, out=heads.rows, inp=x.shape[-1])
        return cast(Tensor, qkv).unflatten(-1, (3, heads.number, heads.head_dim))

    def reweight(self, gates: Tensor, ranges: Sequence[tuple[int, int]], side: Side) -> dict[str, Tensor]:
        """Return the parameters scaled by the (G,) gates of groups of heads (see `per_unit`).

        A gate scales the rows of its heads' queries, keys and values with their biases, and what positions have of
        their own for these heads, unless ``side`` is ``output``; and the columns of the output.
        """
        heads = per_unit(gates, ranges, self.num_heads)
        channels = heads.repeat_interleave(self.head_dim)
        scaled_parameters = {
            "out_proj.weight": self.out_proj.weight * channels,
            "out_proj.bias": self.out_proj.bias * shared_gate(gates),
        }
        if side == "both":
            rows = channels.repeat(3)
            scaled_parameters["in_proj.weight"] = self.in_proj.weight * rows.unsqueeze(1)
            scaled_parameters["in_proj.bias"] = self.in_proj.bias * rows
            scaled_parameters |= self.reweight_positions(heads)
        return scaled_parameters

    def reweight_positions(self, heads: Tensor) -> dict[str, Tensor]:
        """Return the parameters that belong to positions, scaled by the (H,) gates of the heads."""
        return {}

    def count_projections(self, outer: int, heads: Heads, frames: int) -> Count:
        """Count the parameters of the projections, and the MACs of ``frames`` frames."""
        inner = heads.total
        return self.in_proj.count(3 * inner, outer, frames) + self.out_proj.count(outer, inner, frames)

    def extract_projections(self, module: MultiHead, outer: int, heads: Heads) -> None:
        """Copy the projections of one subnet into a stand-alone module."""
        module.in_proj = self.in_proj.extract(heads.rows, outer)
        module.out_proj = self.out_proj.extract(outer, heads.channels)


class ElasticAttention(MultiHead):
    """Self-attention with Transformer-XL relative positions or without any (paper 1).

    With ``position_dim`` given, ``A_ij = ((q_i + u) k_j + (q_i + v) W_R R_{i-j}) / sqrt(d_h)``, of which W_R's rows, u
    and v are sliced with the heads while R keeps its full dimension at every width.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        head_dim: int,
        position_dim: int | None,
        slimming: Slimming,
        dropout: float,
        attention_dropout: float = 0.0,
    ) -> None:
        """Create the module with random weights.

        Args:
            position_dim: dimension of the sinusoids of relative positions; None = no relative positions.
            slimming: what a width below 1 reduces.
            dropout: probability at the output.
            attention_dropout: probability at the attention weights.
        """
        super().__init__(d_model, num_heads, head_dim, slimming)
        self.position_dim = position_dim
        self.dropout = Dropout(dropout)
        self.attention_dropout = Dropout(attention_dropout)
        if position_dim is not None:
            self.position_proj = ElasticLinear(position_dim, num_heads * head_dim, bias=False)
            # u and v of the formula above; zero, so that training starts from plain dot products
            self.content_bias = nn.Parameter(torch.zeros(num_heads, head_dim))
            self.position_bias = nn.Parameter(torch.zeros(num_heads, head_dim))

    def forward(
        self, x: Tensor, padding: Tensor, positions: Tensor | None, width: float, units: Units | None = None
    ) -> Tensor:
        """(N, T, C) -> (N, T, C).

        Args:
            padding: (N, T), True on padding.
            positions: (2T, position_dim) sinusoids of distances T ... -(T - 1); None without relative positions.
        """
        n, frames, outer = x.shape
        heads = self.chosen(width, units)
        qkv = self.project(x, heads)
        # Three tensors (N * H, T, d_h): batched products are fastest with a single batch dimension.
        q, k, v = (projected.flatten(0, 1) for projected in qkv.permute(2, 0, 3, 1, 4))
        scores = self._scores(q, k, positions, heads).view(n, heads.number, frames, frames)
        # Queries on padding are not masked; their outputs are ignored later.
        masked = mask_keys(scores, padding)
        weights = self.attention_dropout(masked.softmax(dim=-1)).flatten(0, 1)
        # (N * H, T, d_h) -> (N, T, H * d_h), with the channels of a head together as in the rows of ``in_proj``
        context = (weights @ v).view(n, heads.number, frames, -1)
        context = context.transpose(1, 2).reshape(n, frames, heads.total)
        return self.dropout(self.out_proj(context, out=outer, inp=heads.channels))

    def reweight_positions(self, heads: Tensor) -> dict[str, Tensor]:
        if self.position_dim is None:
            return {}
        rows = heads.repeat_interleave(self.head_dim).unsqueeze(1)
        return {
            "position_proj.weight": self.position_proj.weight * rows,
            "content_bias": self.content_bias * heads.unsqueeze(1),
            "position_bias": self.position_bias * heads.unsqueeze(1),
        }

    def _scores(self, q: Tensor, k: Tensor, positions: Tensor | None, heads: Heads) -> Tensor:
        """(N * H, T, d_h) queries and keys -> (N * H, T, T) scores.

        Apart from the products, most time is spent on reading and writing (T, T) matrices. The scale is therefore
        applied to the queries, and the same operation computes the content scores and adds the position scores.
        """
        scale = 1.0 / math.sqrt(heads.head_dim)
        if self.position_dim is None:
            return (q * scale) @ k.transpose(-2, -1)
        frames = q.shape[1]
        assert positions is not None, "relative attention needs positions"
        assert positions.shape[0] == 2 * frames, (positions.shape, frames)
        r = self.position_proj(positions, out=heads.channels).view(-1, heads.number, heads.head_dim)
        # (H, d_h) biases: the heads that run, then the first channels of each
        u = take(take(self.content_bias, heads.index), heads.head_dim, 1)
        v = take(take(self.position_bias, heads.index), heads.head_dim, 1)
        by_head = q.view(-1, heads.number, frames, heads.head_dim)
        content, position = ((by_head + bias.unsqueeze(1)) * scale for bias in (u, v))
        # (N, H, T, d_h) @ (H, d_h, 2T): all distances at once, instead of one product per query
        by_distance = position @ r.permute(1, 2, 0)
        position_scores = by_key(by_distance).flatten(0, 1)
        return torch.baddbmm(position_scores, content.flatten(0, 1), k.transpose(-2, -1))

    def count(self, outer: int, width: float, units: Units | None, frames: int) -> Count:
        """Count the parameters, and the MACs of one utterance of ``frames`` frames."""
        heads = self.chosen(width, units)
        inner = heads.total
        total = self.count_projections(outer, heads, frames)
        # queries x keys, and weights x values
        total += Count(macs=2 * frames * frames * inner)
        if self.position_dim is not None:
            distances = 2 * frames
            total += self.position_proj.count(inner, self.position_dim, distances)
            # u and v, and queries x distances
            total += Count(params=2 * inner, macs=frames * distances * inner)
        return total

    def extract(self, outer: int, width: float, units: Units | None) -> ElasticAttention:
        """Copy one subnet into a stand-alone module."""
        heads = self.chosen(width, units)
        module = ElasticAttention(
            outer,
            heads.number,
            heads.head_dim,
            self.position_dim,
            self.slimming,
            self.dropout.p,
            self.attention_dropout.p,
        )
        self.extract_projections(module, outer, heads)
        if self.position_dim is not None:
            module.position_proj = self.position_proj.extract(heads.channels)
            with torch.no_grad():
                module.content_bias.copy_(take(take(self.content_bias, heads.index), heads.head_dim, 1))
                module.position_bias.copy_(take(take(self.position_bias, heads.index), heads.head_dim, 1))
        return module


def mask_keys(scores: Tensor, padding: Tensor) -> Tensor:
    """Set (N, H, T, T) scores of the keys on padding, (N, T) True there, to -inf, in place.

    The result is meant for a softmax, whose gradient is 0 where a weight is 0. So none passes through this operation.
    """
    if torch.compiler.is_compiling():
        return scores.masked_fill_(padding[:, None, None, :], float("-inf"))
    # A limit of -inf or +inf is vectorised, unlike a mask.
    limit = scores.new_full(padding.shape, float("inf")).masked_fill_(padding, float("-inf"))
    scores.detach().clamp_(max=limit[:, None, None, :])
    return scores


def by_key(scores: Tensor) -> Tensor:
    """Reorder scores by key: (N, H, T, 2T) of distances T ... -(T - 1) -> (N, H, T, T); entry (i, j) is at i - j."""
    if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and scores.requires_grad):
        return _key_view(scores)
    return cast(Tensor, _ByKey.apply(scores))


class _ByKey(torch.autograd.Function):
    """`_key_view`, whose own backward pass would fill and copy a whole gradient for each slice."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        ctx.shape = scores.shape
        return _key_view(scores)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].new_zeros(ctx.shape)
        _key_view(grad).copy_(grads[0])
        return grad


def _key_view(scores: Tensor) -> Tensor:
    """Return the result of `by_key`, as a view.

    Row i is needed from column T - i, the distance i to key 0. In a view with rows of 2T - 1 entries that starts at
    entry T, row i starts at T + i (2T - 1) = 2T i + (T - i), which is that column. The first column of the input is
    never read; it exists only to make this view possible.
    """
    frames = scores.shape[2]
    shifted = scores.flatten(2)[..., frames:]
    return shifted.unflatten(2, (frames, 2 * frames - 1))[..., :frames]
