"""The elastic Emformer layer, and what flows between layers (Shi et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimasr.elastic.attention import Slimming
from slimasr.elastic.emformer_attention import Attended, EmformerAttention, Position, Squash
from slimasr.elastic.emformer_layout import Layout, Window
from slimasr.elastic.feed_forward import ElasticFeedForward
from slimasr.elastic.index import size_of
from slimasr.elastic.norm import ElasticLayerNorm, NormMode
from slimasr.supernet.cost import Count
from slimasr.supernet.subnet import Units

MODULES = ("heads", "ffn")
"""Modules of a layer in running order. In these `Subnet.units` chooses heads and hidden channels."""


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
        window: what a segment sees.
        head_dim: channels of an attention head at width 1.
        position: whether attention scores depend on distances.
        squash: how summaries are bounded.
        slimming: what a smaller width reduces, the number of heads or their size.
        norm: mode of the layer norms.
        dropout: probability at the attention weights, and at the outputs and hidden channels of all modules.
        adaptive_dropout: whether dropout at hidden channels shrinks with the number of those that run.
    """

    window: Window
    head_dim: int
    position: Position = "none"
    squash: Squash = "tanh"
    slimming: Slimming = "head_count"
    norm: NormMode = "per_width"
    dropout: float = 0.1
    adaptive_dropout: bool = False


class EmformerLayer(nn.Module):
    """One block; a module whose size is 0 is absent.

    x <- x + MHSA(LN x);  x <- LN(x + FFN(LN x)) for the frames of every segment and the copies of those behind it. The
    attention takes the summaries of the layer below and makes those for the layer above.
    """

    def __init__(
        self, d_model: int, heads: int, ffn: int, widths: Sequence[int], options: EmformerOptions, place: int = 0
    ) -> None:
        """Create the layer with random weights.

        Args:
            heads: attention heads at width 1; 0 = no attention.
            ffn: hidden channels of the feed-forward module at width 1; 0 = no such module.
            widths: residual widths that get their own norms.
            place: position of the layer in its path, from 0; the gain of the initial queries, keys and values is
                1 / sqrt(place + 1).
        """
        super().__init__()
        self.options = options
        self.parts = nn.ModuleDict()
        if heads:
            self.parts["heads"] = EmformerAttention(
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
        if ffn:
            adaptive = options.adaptive_dropout
            self.parts["ffn"] = ElasticFeedForward(d_model, ffn, options.dropout, "gelu", adaptive=adaptive)
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
        self, hidden: EmformerHidden, layout: Layout, cache: Tensor, width: float, units: dict[str, Units | None]
    ) -> tuple[EmformerHidden, Tensor]:
        """Run the layer on the next chunk of streams, from a cache of `init_cache` or of the previous chunk.

        Args:
            layout: from `chunk_layout`.
        """
        after, kept = self._run(hidden, layout, cache, width, units)
        assert kept is not None, "a layout of whole utterances keeps nothing"
        return after, kept

    def _run(
        self,
        hidden: EmformerHidden,
        layout: Layout,
        cache: Tensor | None,
        width: float,
        units: dict[str, Units | None],
    ) -> tuple[EmformerHidden, Tensor | None]:
        x, memory, cache = self._attend(_join(hidden), hidden.memory, layout, cache, width, units)
        return _split(self._transform(x, width, units), memory, layout.window), cache

    def first_half(
        self, hidden: EmformerHidden, layout: Layout, width: float, units: dict[str, Units | None]
    ) -> EmformerHidden:
        """Run the attention of whole utterances."""
        x, memory, _ = self._attend(_join(hidden), hidden.memory, layout, None, width, units)
        return _split(x, memory, layout.window)

    def second_half(
        self, hidden: EmformerHidden, layout: Layout, width: float, units: dict[str, Units | None]
    ) -> EmformerHidden:
        """Run the feed-forward module and the norm after it."""
        return _split(self._transform(_join(hidden), width, units), hidden.memory, layout.window)

    def _attend(
        self,
        x: Tensor,
        memory: Tensor,
        layout: Layout,
        cache: Tensor | None,
        width: float,
        units: dict[str, Units | None],
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return (N, G, r + c, C) frames after the attention, the summaries that it makes, and the next cache."""
        # Without attention, the summaries pass on unchanged.
        if "heads" not in self.running(units):
            return x, memory, cache
        attended: Attended = self.parts["heads"](self.norms["heads"](x), memory, layout, cache, width, units["heads"])
        return x + attended.frames, attended.memory, attended.cache

    def _transform(self, x: Tensor, width: float, units: dict[str, Units | None]) -> Tensor:
        """Run what treats every frame separately: (N, G, r + c, C) -> (N, G, r + c, C)."""
        if "ffn" in self.running(units):
            x = x + self.parts["ffn"](self.norms["ffn"](x), width, units["ffn"])
        return cast(Tensor, self.norms["out"](x))

    def init_cache(self, n: int, width: float, units: dict[str, Units | None], device: torch.device) -> Tensor:
        """Return the cache of ``n`` streams before their first frame; without attention it holds no head."""
        if "heads" not in self.running(units):
            return torch.zeros(n, 2, 0, self.options.window.cached, 0, device=device)
        return cast(EmformerAttention, self.parts["heads"]).init_cache(n, width, units["heads"], device)

    def running(self, units: dict[str, Units | None]) -> list[str]:
        """Return the modules that run, in order."""
        # A choice of 0 units, or of no index, omits the module together with its norm.
        return [name for name in MODULES if name in self.parts and units[name] not in (0, ())]

    def count(self, channels: int, width: float, units: dict[str, Units | None], frames: int) -> Count:
        """Count the parameters, and the MACs of a stream of ``frames`` frames, segment by segment.

        A device computes the copies as well: r + c frames for every c.
        """
        window = self.options.window
        total = self._norm("out").count(channels)
        for name in self.running(units):
            total += self._norm(name).count(channels)
        if "heads" in self.running(units):
            total += cast(EmformerAttention, self.parts["heads"]).count(channels, width, units["heads"], frames)
        if "ffn" in self.running(units):
            computed = window.segments(frames) * window.computed
            total += cast(ElasticFeedForward, self.parts["ffn"]).count(channels, width, units["ffn"], computed)
        return total

    def _norm(self, name: str) -> ElasticLayerNorm:
        return cast(ElasticLayerNorm, self.norms[name])

    def chosen_sizes(self, width: float, units: dict[str, Units | None]) -> dict[str, int]:
        """Return the units of each module in the stand-alone layer."""
        sizes = dict.fromkeys(MODULES, 0)
        running = self.running(units)
        if "heads" in running:
            sizes["heads"] = cast(EmformerAttention, self.parts["heads"]).chosen(width, units["heads"]).number
        if "ffn" in running:
            sizes["ffn"] = size_of(cast(ElasticFeedForward, self.parts["ffn"]).chosen(width, units["ffn"]))
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
