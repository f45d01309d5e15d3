"""Multi-head self-attention, elastic in model width and in heads or head size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from slimasr.elastic.index import Index, choose, in_blocks, in_groups, size_of, take
from slimasr.elastic.linear import ElasticLinear
from slimasr.supernet.cost import Count
from slimasr.supernet.subnet import Units, scaled

Slimming = Literal["head_count", "head_size"]


@dataclass(frozen=True)
class Heads:
    """The attention heads of a subnet: which ones run, their size, and their channels."""

    index: Index
    head_dim: int
    channels: Index

    @property
    def number(self) -> int:
        """Number of heads that run."""
        return size_of(self.index)

    @property
    def total(self) -> int:
        """Number of channels of all heads that run."""
        return self.number * self.head_dim


class ElasticAttention(nn.Module):
    """Self-attention with Transformer-XL relative positions or without any (paper 1).

    A width keeps the first heads as a whole (``head_count``) or the first channels of every head (``head_size``); the
    scale of the scores depends on the current head size. With ``position_dim`` given,
    ``A_ij = ((q_i + u) k_j + (q_i + v) W_R R_{i-j}) / sqrt(d_h)``, of which W_R's rows, u and v are sliced with the
    heads while R keeps its full dimension at every width.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        head_dim: int,
        position_dim: int | None,
        slimming: Slimming,
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.position_dim = position_dim
        self.slimming = slimming
        inner = num_heads * head_dim
        self.in_proj = ElasticLinear(d_model, 3 * inner)
        self.out_proj = ElasticLinear(inner, d_model)
        self.dropout = nn.Dropout(dropout)
        if position_dim is not None:
            self.position_proj = ElasticLinear(position_dim, inner, bias=False)
            self.content_bias = nn.Parameter(torch.zeros(num_heads, head_dim))
            self.position_bias = nn.Parameter(torch.zeros(num_heads, head_dim))

    def chosen(self, width: float, units: Units | None) -> Heads:
        """Heads that run at a width."""
        if self.slimming == "head_count":
            index = choose(scaled(self.num_heads, width), units)
            head_dim = self.head_dim
        else:
            index = choose(self.num_heads, units)
            head_dim = scaled(self.head_dim, width)
        return Heads(index, head_dim, in_blocks(index, self.head_dim, head_dim))

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
        rows = in_groups(heads.channels, 3, self.num_heads * self.head_dim)
        qkv = self.in_proj(x, out=rows, inp=outer).view(n, frames, 3, heads.number, heads.head_dim)
        q, k, v = (part.flatten(0, 1) for part in qkv.permute(2, 0, 3, 1, 4))
        scores = self._scores(q, k, positions, heads)
        masked = scores.view(n, heads.number, frames, frames).masked_fill_(padding[:, None, None, :], float("-inf"))
        weights = masked.softmax(dim=-1).flatten(0, 1)
        context = (weights @ v).view(n, heads.number, frames, -1).transpose(1, 2).reshape(n, frames, heads.total)
        return self.dropout(self.out_proj(context, out=outer, inp=heads.channels))

    def _scores(self, q: Tensor, k: Tensor, positions: Tensor | None, heads: Heads) -> Tensor:
        """(N * H, T, d_h) queries and keys -> (N * H, T, T) scores.

        Besides the products, attention spends its time on reading and writing (T, T) matrices. The scale is therefore
        applied before the product, and the product adds content to position scores.
        """
        scale = 1.0 / math.sqrt(heads.head_dim)
        if self.position_dim is None:
            return (q * scale) @ k.transpose(-2, -1)
        frames = q.shape[1]
        assert positions is not None, "relative attention needs positions"
        assert positions.shape[0] == 2 * frames, (positions.shape, frames)
        r = self.position_proj(positions, out=heads.channels).view(-1, heads.number, heads.head_dim)
        u = take(take(self.content_bias, heads.index), heads.head_dim, 1)
        v = take(take(self.position_bias, heads.index), heads.head_dim, 1)
        by_head = q.view(-1, heads.number, frames, heads.head_dim)
        content, position = ((by_head + bias.unsqueeze(1)) * scale for bias in (u, v))
        by_distance = position @ r.permute(1, 2, 0)
        return torch.baddbmm(_by_key(by_distance).flatten(0, 1), content.flatten(0, 1), k.transpose(-2, -1))

    def count(self, outer: int, width: float, units: Units | None, frames: int) -> Count:
        """Size and work on one utterance of ``frames`` frames."""
        heads = self.chosen(width, units)
        inner = heads.total
        total = self.in_proj.count(3 * inner, outer, frames) + self.out_proj.count(outer, inner, frames)
        total += Count(macs=2 * frames * frames * inner)
        if self.position_dim is not None:
            distances = 2 * frames
            total += self.position_proj.count(inner, self.position_dim, distances)
            total += Count(params=2 * inner, macs=frames * distances * inner)
        return total

    def extract(self, outer: int, width: float, units: Units | None) -> ElasticAttention:
        """A stand-alone module of one subnet."""
        heads = self.chosen(width, units)
        module = ElasticAttention(outer, heads.number, heads.head_dim, self.position_dim, self.slimming, self.dropout.p)
        rows = in_groups(heads.channels, 3, self.num_heads * self.head_dim)
        module.in_proj = self.in_proj.extract(rows, outer)
        module.out_proj = self.out_proj.extract(outer, heads.channels)
        if self.position_dim is not None:
            module.position_proj = self.position_proj.extract(heads.channels)
            with torch.no_grad():
                module.content_bias.copy_(take(take(self.content_bias, heads.index), heads.head_dim, 1))
                module.position_bias.copy_(take(take(self.position_bias, heads.index), heads.head_dim, 1))
        return module


def _by_key(scores: Tensor) -> Tensor:
    """(N, H, T, 2T) scores of distances T ... -(T - 1) -> (N, H, T, T) scores of keys: entry (i, j) is i - j's.

    Row i is needed from column T - i on. A view with rows one entry shorter, starting at the T-th entry, has its rows
    start exactly there; the first column is never read. Nothing is copied.
    """
    frames = scores.shape[2]
    return scores.flatten(2)[..., frames:].unflatten(2, (frames, 2 * frames - 1))[..., :frames]
