"""Attention, feed-forward and convolution modules against torch's layers and the formulas of the paper."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from slimasr.elastic.attention import ElasticAttention, Slimming
from slimasr.elastic.conv_module import ElasticConvModule
from slimasr.elastic.feed_forward import ElasticFeedForward
from slimasr.encoders.frontend import sinusoids
from slimasr.supernet.subnet import ranges_of
from tests.tiny import randomize

PADDING = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])


def attention(position_dim: int | None, slimming: Slimming = "head_count") -> ElasticAttention:
    module = ElasticAttention(16, 4, 4, position_dim, slimming, 0.0)
    randomize(module)
    return module.eval()


def positions(frames: int, dim: int) -> torch.Tensor:
    return sinusoids(torch.arange(frames, -frames, -1), dim)


def test_plain_attention_equals_torch() -> None:
    ours = attention(None)
    theirs = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.in_proj.weight)
        theirs.in_proj_bias.copy_(ours.in_proj.bias)
        theirs.out_proj.weight.copy_(ours.out_proj.weight)
        theirs.out_proj.bias.copy_(ours.out_proj.bias)
    x = torch.randn(2, 6, 16)
    want, _ = theirs(x, x, x, key_padding_mask=PADDING)
    torch.testing.assert_close(ours(x, PADDING, None, 1.0), want)


def relative_by_hand(m: ElasticAttention, x: torch.Tensor, heads: list[int], dims: int, channels: int) -> torch.Tensor:
    """A_ij = ((q_i + u) k_j + (q_i + v) W_R R_{i-j}) / sqrt(d_h), one score at a time, for one utterance."""
    frames, full = x.shape[0], m.head_dim
    out = m.out_proj.bias[:channels].clone().repeat(frames, 1)
    for h in heads:
        rows = slice(h * full, h * full + dims)
        parts = m.in_proj.weight.view(3, -1, 16)[:, rows, :channels], m.in_proj.bias.view(3, -1)[:, rows]
        q, k, v = (x @ w.T + b for w, b in zip(*parts, strict=True))
        scores = torch.zeros(frames, frames)
        for i in range(frames):
            for j in range(frames):
                r = m.position_proj.weight[rows] @ sinusoids(torch.tensor([i - j]), 16)[0]
                content = (q[i] + m.content_bias[h, :dims]) @ k[j]
                scores[i, j] = content + (q[i] + m.position_bias[h, :dims]) @ r
        context = (scores / math.sqrt(dims)).softmax(dim=1) @ v
        out += context @ m.out_proj.weight[:channels, rows].T
    return out


@pytest.mark.parametrize(("slimming", "heads", "dims"), [("head_count", [0, 1], 4), ("head_size", [0, 1, 2, 3], 2)])
def test_relative_attention_equals_the_formula(slimming: Slimming, heads: list[int], dims: int) -> None:
    module, x = attention(16, slimming), torch.randn(1, 5, 16)
    none = torch.zeros(1, 5, dtype=torch.bool)
    for width, chosen, size, channels in ((1.0, [0, 1, 2, 3], 4, 16), (0.5, heads, dims, 8)):
        got = module(x[..., :channels], none, positions(5, 16), width)[0]
        want = relative_by_hand(module, x[0, :, :channels], chosen, size, channels)
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)
    got = module(x, none, positions(5, 16), 1.0, ranges_of([1, 3]))[0]
    torch.testing.assert_close(got, relative_by_hand(module, x[0], [1, 3], 4, 16), atol=1e-5, rtol=1e-4)


def test_feed_forward_equals_torch_on_the_slice() -> None:
    module = ElasticFeedForward(16, 32, 0.0)
    some = [1, 7, 15]
    for width, units, rows in ((1.0, None, range(32)), (0.5, None, range(16)), (0.5, ranges_of(some), some)):
        channels, chosen = int(16 * width), list(rows)
        x = torch.randn(2, 5, channels)
        inner = F.silu(F.linear(x, module.inner.weight[chosen, :channels], module.inner.bias[chosen]))
        want = F.linear(inner, module.outer.weight[:channels][:, chosen], module.outer.bias[:channels])
        torch.testing.assert_close(module(x, width, units), want)


def test_each_value_channel_keeps_its_own_gate() -> None:
    module = ElasticConvModule(16, 16, 3, (16, 8), "per_width", 0.0).eval()
    randomize(module)
    x = torch.randn(2, 6, 8)
    value = F.linear(x, module.gated.weight[:8, :8], module.gated.bias[:8])
    gate = F.linear(x, module.gated.weight[16:24, :8], module.gated.bias[16:24])
    hidden = (value * gate.sigmoid()).masked_fill(PADDING.unsqueeze(-1), 0.0).transpose(1, 2)
    assert module.depthwise.bias is not None
    hidden = F.conv1d(hidden, module.depthwise.weight[:8], module.depthwise.bias[:8], padding=1, groups=8)
    stats, affine = module.norm.stats["8"], module.norm.affine["8"]
    hidden = F.batch_norm(hidden, stats.mean, stats.var, affine.weight, affine.bias)
    want = F.linear(F.silu(hidden.transpose(1, 2)), module.pointwise.weight[:8, :8], module.pointwise.bias[:8])
    torch.testing.assert_close(module(x, PADDING, 0.5), want)
