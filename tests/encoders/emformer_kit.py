"""Stacks of Emformer layers without an encoder around them, and the same by one mask over one long axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from slimasr.elastic.emformer_layout import Layout, Window, chunk_layout, whole_layout
from slimasr.encoders.base import EncoderState
from slimasr.encoders.emformer_layer import (
    MODULES,
    EmformerHidden,
    EmformerLayer,
    EmformerOptions,
    into_segments,
)
from slimasr.supernet.subnet import Units
from tests.tiny import randomize

WIDTHS = (16, 8)
ALL: dict[str, Units | None] = dict.fromkeys(MODULES)


@dataclass(frozen=True)
class Stack:
    """Layers at one subnet, the same in all layers."""

    layers: nn.ModuleList
    window: Window
    width: float = 1.0
    units: tuple[tuple[str, Units | None], ...] = tuple(ALL.items())

    def run(self, hidden: EmformerHidden, layout: Layout) -> EmformerHidden:
        for layer in self.layers:
            hidden = layer(hidden, layout, self.width, dict(self.units))
        return hidden

    def whole(self, x: Tensor, lens: Sequence[int]) -> Tensor:
        """(N, T, C) -> (N, T, C)."""
        layout = whole_layout(self.window, x.shape[1], torch.tensor(lens))
        return self.run(into_segments(x, layout), layout).centre[:, : x.shape[1]]

    def state(self, n: int) -> EncoderState:
        caches = [layer.init_cache(n, self.width, dict(self.units), torch.device("cpu")) for layer in self.layers]
        # There is no front end, so no input frame waits.
        return EncoderState(torch.zeros(n, 0, 1), torch.zeros(n, dtype=torch.int64), tuple(caches))

    def chunk(
        self, x: Tensor, state: EncoderState, lens: Sequence[int], available: Sequence[int]
    ) -> tuple[Tensor, EncoderState]:
        """Run (n, T', C) frames, of which ``lens`` are new and the others of ``available`` are look-ahead."""
        layout = chunk_layout(self.window, max(lens), torch.tensor(lens), torch.tensor(available), state.seen)
        hidden, caches = into_segments(x, layout), []
        for layer, before in zip(self.layers, state.layers, strict=True):
            hidden, after = layer.stream(hidden, layout, before, self.width, dict(self.units))
            caches.append(after)
        return hidden.centre[:, : max(lens)], EncoderState(state.frames, state.seen + torch.tensor(lens), tuple(caches))

    def stream(self, x: Tensor, segments: Sequence[int]) -> Tensor:
        """(n, T, C) in chunks of so many segments, each with its look-ahead as far as there is one."""
        state, outputs, begin, length = self.state(x.shape[0]), [], 0, x.shape[1]
        for number in segments:
            end = min(length, begin + number * self.window.segment)
            stop = min(length, end + self.window.right)
            out, state = self.chunk(x[:, begin:stop], state, [end - begin] * len(x), [stop - begin] * len(x))
            outputs.append(out)
            begin = end
        assert begin == length
        return torch.cat(outputs, dim=1)


def stack(window: Window, depth: int = 2, *, double: bool = True, **changes: object) -> Stack:
    """Random layers of 16 channels, 4 heads of 4 channels and 32 hidden channels, in evaluation mode.

    With ``macaron`` they have a first feed-forward module of 24 channels, and with a history a convolution of 16.
    """
    options = EmformerOptions(window, 4, **{"dropout": 0.0, **changes})  # type: ignore[arg-type]
    more = {"ffn1": 24 if options.macaron else 0, "conv": 16 if window.history else 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.ModuleList(EmformerLayer(16, 4, 32, WIDTHS, options, place, **more) for place in range(depth))
    randomize(layers)
    layers.eval()
    return Stack(layers.double() if double else layers, window)


@dataclass(frozen=True)
class Slice:
    """What a subnet runs, spelt out."""

    channels: int = 16
    heads: tuple[int, ...] = (0, 1, 2, 3)
    head_dim: int = 4
    hidden: tuple[int, ...] = tuple(range(32))
    first: tuple[int, ...] = tuple(range(24))
    inner: tuple[int, ...] = tuple(range(16))


def dense(layers: nn.ModuleList, window: Window, x: Tensor, part: Slice = Slice()) -> Tensor:
    """(T, C) -> (T, C) for one utterance: [copies | utterance | summaries] on one axis, with one boolean mask."""
    c, r, frames = window.segment, window.right, len(x)
    groups = math.ceil(frames / c)
    # (segment, frame) of all copies and of the utterance; copies of what does not exist are left out
    copies = [(g, (g + 1) * c + j) for g in range(groups) for j in range(r) if (g + 1) * c + j < frames]
    rows = copies + [(t // c, t) for t in range(frames)]
    hidden = x[[t for _, t in rows]]
    memory = _means(x, c)
    seen, column = _mask(window, rows, len(copies), groups)
    for layer in layers:
        hidden, memory = _dense_layer(layer, window, hidden, memory, seen, column, rows, len(copies), part)
    return hidden[len(copies) :]


def _means(x: Tensor, c: int) -> Tensor:
    return torch.stack([part.mean(dim=0) for part in x.split(c)])


def _mask(window: Window, rows: list[tuple[int, int]], copies: int, groups: int) -> tuple[Tensor, Tensor]:
    """Who sees whom, and the columns of the position bias, for queries [rows | summaries], keys [memories | rows]."""
    seen = torch.zeros(len(rows) + groups, groups + len(rows), dtype=torch.bool)
    column = torch.zeros(len(rows), groups + len(rows), dtype=torch.int64)
    queries = rows + [(g, -1) for g in range(groups)]
    for i, (g, t) in enumerate(queries):
        for j in range(groups):
            seen[i, j] = t >= 0 and g - window.memory <= j < g
            if seen[i, j]:
                column[i, j] = window.left + 2 * (window.segment + window.right) - 1 + g - j - 1
        for j, (of, key) in enumerate(rows):
            if j < copies:
                seen[i, groups + j] = of == g
            else:
                seen[i, groups + j] = max(0, g * window.segment - window.left) <= key < (g + 1) * window.segment
            if t >= 0 and seen[i, groups + j]:
                column[i, groups + j] = t - key + window.segment + window.right - 1
    return seen, column


def _dense_layer(
    layer: nn.Module,
    window: Window,
    x: Tensor,
    memory: Tensor,
    seen: Tensor,
    column: Tensor,
    rows: list[tuple[int, int]],
    copies: int,
    part: Slice,
) -> tuple[Tensor, Tensor]:
    """Frames and summaries after one layer, from its weights and with loops over heads."""
    w = dict(layer.named_parameters())
    channels, frames = part.channels, len(x)

    def norm(name: str, value: Tensor) -> Tensor:
        scale, shift = (w[f"norms.{name}.affine.{channels}.{kind}"] for kind in ("weight", "bias"))
        return functional.layer_norm(value, (channels,), scale, shift)

    def transformed(name: str, value: Tensor, units: Sequence[int]) -> Tensor:
        chosen, of = list(units), f"parts.{name}"
        inner = norm(name, value) @ w[f"{of}.inner.weight"][chosen, :channels].T + w[f"{of}.inner.bias"][chosen]
        outer = functional.gelu(inner) @ w[f"{of}.outer.weight"][:channels][:, chosen].T
        return (outer + w[f"{of}.outer.bias"][:channels]) / (2 if layer.options.macaron else 1)

    if "parts.ffn1.inner.weight" in w:
        x = x + transformed("ffn1", x, part.first)
    normed = norm("heads", x)
    queries = torch.cat([normed, _means(normed[copies:], window.segment)])
    keys = torch.cat([memory, normed])
    out = w["parts.heads.out_proj.bias"][:channels].repeat(len(queries), 1)
    for h in part.heads:
        at = slice(4 * h, 4 * h + part.head_dim)
        q, k, v = (
            value @ weight[at, :channels].T + bias[at]
            for value, weight, bias in zip(
                (queries, keys, keys),
                w["parts.heads.in_proj.weight"].chunk(3),
                w["parts.heads.in_proj.bias"].chunk(3),
                strict=True,
            )
        )
        scores = q @ k.T / math.sqrt(part.head_dim)
        if "parts.heads.position_bias" in w:
            bias = w["parts.heads.position_bias"][h][column]
            scores = scores + torch.cat([bias, _means(bias[copies:], window.segment)])
        weights = scores.masked_fill(~seen, -math.inf).softmax(dim=1)
        out = out + weights @ v @ w["parts.heads.out_proj.weight"][:channels, at].T
    summaries = out[frames:].tanh() if layer.options.squash == "tanh" else out[frames:].clamp(-10, 10)
    x = x + out[:frames]
    if "parts.conv.gated.weight" in w:
        x = x + _dense_convolution(w, norm("conv", x), rows, copies, part)
    return norm("out", x + transformed("ffn", x, part.hidden)), summaries


def _dense_convolution(
    w: dict[str, nn.Parameter], x: Tensor, rows: list[tuple[int, int]], copies: int, part: Slice
) -> Tensor:
    """Filters that walk from every row to the rows before it, one by one."""
    channels, chosen = part.channels, list(part.inner)
    value, gate = (
        x @ weight[chosen, :channels].T + bias[chosen]
        for weight, bias in zip(w["parts.conv.gated.weight"].chunk(2), w["parts.conv.gated.bias"].chunk(2), strict=True)
    )
    inner = value * gate.sigmoid()
    utterance = {frame: row for row, (_, frame) in enumerate(rows) if row >= copies}
    own = {place: row for row, place in enumerate(rows) if row < copies}
    filters = w["parts.conv.depthwise.weight"][chosen, 0]
    filtered = []
    for row, (segment, frame) in enumerate(rows):
        total = w["parts.conv.depthwise.bias"][chosen]
        for age, tap in enumerate(filters.T.flip(0)):
            # A copy sees the copies of its own segment, then the utterance up to the end of that segment.
            before = own.get((segment, frame - age)) if row < copies else None
            before = utterance.get(frame - age) if before is None else before
            if before is not None:
                total = total + tap * inner[before]
        filtered.append(total)
    scale, shift = (w[f"parts.conv.norm.affine.{channels}.{kind}"][chosen] for kind in ("weight", "bias"))
    normed = functional.layer_norm(torch.stack(filtered), (len(chosen),), scale, shift)
    outer = w["parts.conv.pointwise.weight"][:channels][:, chosen]
    return functional.silu(normed) @ outer.T + w["parts.conv.pointwise.bias"][:channels]
