"""The elastic Emformer layer with and without convolution (Shi et al. 2021, paper 5), and what flows between layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimasr.elastic.attention import Heads, Slimming
from slimasr.elastic.emformer_attention import Attended, EmformerAttention, Position, Squash
from slimasr.elastic.emformer_convolution import Convolved, SegmentConvolution
from slimasr.elastic.emformer_layout import Layout, Window
from slimasr.elastic.feed_forward import ElasticFeedForward
from slimasr.elastic.index import size_of
from slimasr.elastic.norm import ElasticLayerNorm, NormMode
from slimasr.supernet.cost import Count
from slimasr.supernet.subnet import Units

MODULES = ("ffn1", "heads", "conv", "ffn")
"""Modules of a layer in running order, of which ``ffn1`` and ``conv`` exist on request. In these `Subnet.units` chooses
hidden channels, heads, inner channels and hidden channels."""

LAST = MODULES[-1]
"""The module in the second half of a layer (`Encoder.half_runner`)."""

LayerCache = tuple[Tensor, Tensor]
"""What a layer keeps of a stream between two chunks: keys and values of its attention, and frames of its convolution. A
module that does not run keeps an empty tensor."""


@dataclass(frozen=True)
class EmformerHidden:
    """What flows from layer to layer.

    Every segment has its own copies of the frames that follow it (its right context). If each layer copied them again
    from the output of the next segment, they would include the look-ahead of that segment, and the total look-ahead
    would grow with the number of layers.

    Attributes:
        centre: (N, G * c, C) the frames, padded to whole segments.
        copies: (N, G, r, C) the copies of the r frames behind every segment.
        memory: (N, G, C) a summary of every segment; (N, 0, C) without memory.
        segment: c, frames of a segment.
    """

    centre: Tensor
    copies: Tensor
    memory: Tensor
    segment: int


@dataclass(frozen=True)
class EmformerOptions:
    """The settings that all layers share.

    Attributes:
        window: what a segment sees; its ``history`` is the width of the filters of the convolution less 1.
        head_dim: channels of an attention head at width 1.
        position: whether attention scores depend on distances.
        squash: how summaries are bounded.
        slimming: what a smaller width reduces, the number of heads or their size.
        norm: mode of the layer norms.
        dropout: probability at the attention weights, and at the outputs and hidden channels of all modules.
        adaptive_dropout: whether dropout at hidden channels shrinks with the number of those that run.
        macaron: whether feed-forward modules are half-step residuals.
    """

    window: Window
    head_dim: int
    position: Position = "none"
    squash: Squash = "tanh"
    slimming: Slimming = "head_count"
    norm: NormMode = "per_width"
    dropout: float = 0.1
    adaptive_dropout: bool = False
    macaron: bool = False


class EmformerLayer(nn.Module):
    """One block; a module whose size is 0 is absent.

    x <- x + MHSA(LN x);  x <- LN(x + FFN(LN x)) for the frames of every segment and the copies of those behind it
    (paper 3). With all modules (paper 5): x <- x + FFN1(LN x) / 2;  x <- x + MHSA(LN x);  x <- x + Conv(LN x);
    x <- LN(x + FFN(LN x) / 2). The attention takes the summaries of the layer below and makes those for the layer
    above.
    """

    def __init__(
        self,
        d_model: int,
        heads: int,
        ffn: int,
        widths: Sequence[int],
        options: EmformerOptions,
        place: int = 0,
        *,
        ffn1: int = 0,
        conv: int = 0,
    ) -> None:
        """Create the layer with random weights.

        Args:
            heads: attention heads at width 1; 0 = no attention.
            ffn: hidden channels of the last feed-forward module at width 1; 0 = no such module.
            widths: residual widths that get their own norms.
            place: position of the layer in its path, from 0; the gain of the initial queries, keys and values is
                1 / sqrt(place + 1).
            ffn1: hidden channels of the first feed-forward module at width 1; 0 = no such module.
            conv: inner channels of the convolution module at width 1; 0 = no convolution.
        """
        super().__init__()
        self.options = options
        self.residual_step = 0.5 if options.macaron else 1.0
        self.parts = nn.ModuleDict()
        if ffn1:
            self.parts["ffn1"] = _feed_forward(d_model, ffn1, options)
        if heads:
            self.parts["heads"] = _attention(d_model, heads, options, place)
        if conv:
            # The module's own norm normalises inner channels, so it is selected by their number at each width.
            inner = [round(conv * width / d_model) for width in widths]
            kernel = options.window.history + 1
            self.parts["conv"] = SegmentConvolution(d_model, conv, kernel, inner, options.norm, options.dropout)
        if ffn:
            self.parts["ffn"] = _feed_forward(d_model, ffn, options)
        # Pre-norms exist only for the modules that exist.
        self.norms = nn.ModuleDict(
            {name: ElasticLayerNorm(d_model, widths, options.norm) for name in (*self.parts, "out")}
        )

    def forward(
        self, hidden: EmformerHidden, layout: Layout, width: float, units: dict[str, Units | None]
    ) -> EmformerHidden:
        """Run the layer on whole utterances.

        Args:
            layout: from `whole_layout`.
            width: fraction of channels that run.
            units: module -> units that run, None = all that the width allows, 0 = leave the module out.
        """
        return self._run(hidden, layout, None, width, units)[0]

    def stream(
        self, hidden: EmformerHidden, layout: Layout, cache: LayerCache, width: float, units: dict[str, Units | None]
    ) -> tuple[EmformerHidden, LayerCache]:
        """Run the layer on the next chunk of streams, from a cache of `init_cache` or of the previous chunk.

        Args:
            layout: from `chunk_layout`.
        """
        after, (attended, convolved) = self._run(hidden, layout, cache, width, units)
        assert attended is not None and convolved is not None, "a layout of whole utterances keeps nothing"
        return after, (attended, convolved)

    def _run(
        self,
        hidden: EmformerHidden,
        layout: Layout,
        cache: LayerCache | None,
        width: float,
        units: dict[str, Units | None],
    ) -> tuple[EmformerHidden, tuple[Tensor | None, Tensor | None]]:
        x, memory, kept = self._before_last(_join(hidden), hidden.memory, layout, cache, width, units)
        return _split(self._last(x, width, units), memory, layout.window), kept

    def first_half(
        self, hidden: EmformerHidden, layout: Layout, width: float, units: dict[str, Units | None]
    ) -> EmformerHidden:
        """Run all modules before the last on whole utterances."""
        x, memory, _ = self._before_last(_join(hidden), hidden.memory, layout, None, width, units)
        return _split(x, memory, layout.window)

    def second_half(
        self, hidden: EmformerHidden, layout: Layout, width: float, units: dict[str, Units | None]
    ) -> EmformerHidden:
        """Run the last feed-forward module and the norm after it."""
        return _split(self._last(_join(hidden), width, units), hidden.memory, layout.window)

    def _before_last(
        self,
        x: Tensor,
        memory: Tensor,
        layout: Layout,
        cache: LayerCache | None,
        width: float,
        units: dict[str, Units | None],
    ) -> tuple[Tensor, Tensor, tuple[Tensor | None, Tensor | None]]:
        """Return (N, G, r + c, C) frames before the last module, the summaries of the attention, and the next cache.

        Without attention, the summaries pass on unchanged. Whole utterances keep nothing.
        """
        attended, convolved = cache or (None, None)
        for name in self.running(units):
            if name == LAST:
                break
            part, normed, chosen = self.parts[name], self.norms[name](x), units[name]
            if name == "heads":
                frames, memory, attended = cast(Attended, part(normed, memory, layout, attended, width, chosen))
                x = x + frames
            elif name == "conv":
                frames, convolved = cast(Convolved, part(normed, layout, convolved, width, chosen))
                x = x + frames
            else:
                x = torch.add(x, part(normed, width, chosen), alpha=self.residual_step)
        return x, memory, (attended, convolved)

    def _last(self, x: Tensor, width: float, units: dict[str, Units | None]) -> Tensor:
        """Run the last module and the norm after it: (N, G, r + c, C) -> (N, G, r + c, C)."""
        if LAST in self.running(units):
            transformed = self.parts[LAST](self.norms[LAST](x), width, units[LAST])
            x = torch.add(x, transformed, alpha=self.residual_step)
        return cast(Tensor, self.norms["out"](x))

    def init_cache(self, n: int, width: float, units: dict[str, Units | None], device: torch.device) -> LayerCache:
        """Return the cache of ``n`` streams before their first frame."""
        running = self.running(units)
        attended = torch.zeros(n, 2, 0, self.options.window.cached, 0, device=device)
        convolved = torch.zeros(n, 0, 0, device=device)
        if "heads" in running:
            attended = cast(EmformerAttention, self.parts["heads"]).init_cache(n, width, units["heads"], device)
        if "conv" in running:
            convolved = cast(SegmentConvolution, self.parts["conv"]).init_cache(n, width, units["conv"], device)
        return attended, convolved

    def running(self, units: dict[str, Units | None]) -> list[str]:
        """Return the modules that run, in order."""
        # A choice of 0 units, or of no index, omits the module together with its norm.
        return [name for name in MODULES if name in self.parts and units[name] not in (0, ())]

    def count(self, channels: int, width: float, units: dict[str, Units | None], frames: int) -> Count:
        """Count the parameters, and the MACs of a stream of ``frames`` frames, segment by segment.

        A device computes the copies as well: r + c frames for every c.
        """
        window = self.options.window
        computed = window.segments(frames) * window.computed
        total = self._norm("out").count(channels)
        for name in self.running(units):
            total += self._norm(name).count(channels)
            if name == "heads":
                total += cast(EmformerAttention, self.parts[name]).count(channels, width, units[name], frames)
            else:
                total += cast(ElasticFeedForward, self.parts[name]).count(channels, width, units[name], computed)
        return total

    def _norm(self, name: str) -> ElasticLayerNorm:
        return cast(ElasticLayerNorm, self.norms[name])

    def chosen_sizes(self, width: float, units: dict[str, Units | None]) -> dict[str, int]:
        """Return the units of each module in the stand-alone layer."""
        sizes = dict.fromkeys(MODULES, 0)
        for name in self.running(units):
            chosen = cast(ElasticFeedForward | EmformerAttention, self.parts[name]).chosen(width, units[name])
            sizes[name] = chosen.number if isinstance(chosen, Heads) else size_of(chosen)
        return sizes

    def extract(
        self, options: EmformerOptions, channels: int, width: float, units: dict[str, Units | None]
    ) -> EmformerLayer:
        """Copy one subnet into a stand-alone layer; ``options`` are those of the stand-alone encoder."""
        layer = EmformerLayer(channels, **self.chosen_sizes(width, units), widths=(channels,), options=options)
        for name in self.running(units):
            part = cast(EmformerAttention, self.parts[name])
            layer.parts[name] = part.extract(channels, width, units[name])
        # The norms of the new layer are those of its own modules and "out".
        for name in layer.norms:
            layer.norms[name] = self._norm(name).extract(channels)
        return layer


def _feed_forward(d_model: int, hidden: int, options: EmformerOptions) -> ElasticFeedForward:
    return ElasticFeedForward(d_model, hidden, options.dropout, "gelu", adaptive=options.adaptive_dropout)


def _attention(d_model: int, heads: int, options: EmformerOptions, place: int) -> EmformerAttention:
    return EmformerAttention(
        d_model,
        heads,
        options.head_dim,
        options.window,
        position=options.position,
        squash=options.squash,
        slimming=options.slimming,
        dropout=options.dropout,
        gain=1.0 / math.sqrt(place + 1),
    )


def into_segments(x: Tensor, layout: Layout) -> EmformerHidden:
    """Turn (N, T', C) frames into the input of the first layer.

    Frames beyond T are look-ahead; where ``x`` ends before the look-ahead of the last segment, `Layout` masks the
    copies. The first layer's summaries are the means of the segments.
    """
    window = layout.window
    whole = layout.segments * window.segment
    # Enough for the end of the last segment and its look-ahead, without a condition on the number of frames, which
    # export would turn into a constant.
    padded = F.pad(x, (0, 0, 0, window.segment + window.right))
    starts = torch.arange(1, layout.segments + 1, device=x.device) * window.segment
    places = starts.unsqueeze(1) + torch.arange(window.right, device=x.device)
    copies = padded.index_select(1, places.flatten()).unflatten(1, places.shape)
    centre = padded[:, :whole]
    if not window.memory:
        return EmformerHidden(centre, copies, x.new_zeros(x.shape[0], 0, x.shape[2]), window.segment)
    return EmformerHidden(centre, copies, layout.means(centre.unflatten(1, (-1, window.segment))), window.segment)


def _join(hidden: EmformerHidden) -> Tensor:
    """Return (N, G, r + c, C): for every segment its copies, then its frames."""
    return torch.cat([hidden.copies, hidden.centre.unflatten(1, (-1, hidden.segment))], dim=2)


def _split(x: Tensor, memory: Tensor, window: Window) -> EmformerHidden:
    """The reverse of `_join`."""
    copies, centre = x.split((window.right, window.segment), dim=2)
    return EmformerHidden(centre.flatten(1, 2), copies, memory, window.segment)
