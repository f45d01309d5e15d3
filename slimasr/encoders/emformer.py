"""The elastic Emformer encoder: segments with limited context, whole utterances and streams (papers 3 and 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimasr.config.encoders import EmformerConfig, EncoderConfig
from slimasr.config.model import FrontendConfig
from slimasr.elastic.emformer_layout import Layout, Window, chunk_layout, whole_layout
from slimasr.encoders.base import MAX, Encoder, EncoderOutput, EncoderState, Known, path_of
from slimasr.encoders.emformer_layer import MODULES, EmformerHidden, EmformerLayer, EmformerOptions, into_segments
from slimasr.encoders.frontend import shrink_frontend
from slimasr.encoders.sizes import layer_units, shrunk_sizes
from slimasr.supernet.cost import Count
from slimasr.supernet.subnet import Subnet, refuse_pathway, scaled


class Emformer(Encoder):
    """Front end and Emformer layers at any width of the space, any path, any choice of units.

    `forward` of whole utterances and `stream` compute the same: a segment sees the frames of its window, wherever the
    chunks of the stream end. Between layers, `EncoderOutput.inner` holds the copies of the frames behind every segment
    and, with memory, the summaries (`EmformerHidden`).
    """

    config: EmformerConfig
    first_half = MODULES[:-1]

    def __init__(
        self, config: EmformerConfig, frontend: FrontendConfig, num_mel_bins: int, widths: Sequence[float]
    ) -> None:
        """Build front end and layers with random weights.

        Args:
            widths: the fractions that get their own norms.

        Raises:
            ValueError: a number of channels is not whole at some width.
        """
        super().__init__(config, frontend, num_mel_bins, widths)
        self.window = window_of(config)
        residual = [scaled(config.d_model, width) for width in widths]
        options = options_of(config)
        # The gain of initial weights goes by the position in the path, which a shared layer has in all branches alike.
        places = {index: place for path in config.paths for place, index in enumerate(path)}
        self.layers = nn.ModuleList(
            EmformerLayer(config.d_model, **sizes, widths=residual, options=options, place=places[index])
            for index, sizes in enumerate(config.layer_units)
        )
        # Counting scales every number of channels, so an impossible width fails here and not in training.
        for width in widths:
            self.count(Subnet(width), 100)

    def embed(self, x: Tensor, x_lens: Tensor, subnet: Subnet | None = None) -> EncoderOutput:
        hidden = super().embed(x, x_lens, subnet)
        return self._closed(hidden, into_segments(hidden.out, self._layout(hidden)))

    def layer_runner(self, hidden: EncoderOutput, subnet: Subnet) -> Callable[[int, EncoderOutput], EncoderOutput]:
        layout = self._layout(hidden)

        def run(index: int, hidden: EncoderOutput) -> EncoderOutput:
            units = layer_units(subnet, index, MODULES)
            return self._closed(hidden, self._layer(index)(self._opened(hidden, layout), layout, subnet.width, units))

        return run

    def half_runner(
        self, hidden: EncoderOutput, subnet: Subnet, known: Known
    ) -> Callable[[int, int, EncoderOutput], EncoderOutput]:
        layout = self._layout(hidden)

        def run(index: int, half: int, hidden: EncoderOutput) -> EncoderOutput:
            layer = self._layer(index)
            part = layer.first_half if half == 0 else layer.second_half
            units = layer_units(subnet, index, MODULES)
            return self._closed(hidden, part(self._opened(hidden, layout), layout, subnet.width, units))

        return run

    def _layer(self, index: int) -> EmformerLayer:
        return cast(EmformerLayer, self.layers[index])

    def _layout(self, hidden: EncoderOutput) -> Layout:
        """Lay out the windows of whole utterances."""
        return whole_layout(self.window, hidden.out.shape[1], hidden.lens.to(hidden.out.device, non_blocking=True))

    def _opened(self, hidden: EncoderOutput, layout: Layout) -> EmformerHidden:
        """Return what a layer takes, with frames padded to whole segments."""
        whole = layout.segments * self.window.segment
        centre = F.pad(hidden.out, (0, 0, 0, whole - layout.frames))
        copies, *summaries = hidden.inner
        memory = summaries[0] if summaries else centre.new_zeros(centre.shape[0], 0, centre.shape[2])
        return EmformerHidden(centre, copies, memory, self.window.segment)

    def _closed(self, before: EncoderOutput, after: EmformerHidden) -> EncoderOutput:
        """Return what a layer has made, with the frames of the batch alone."""
        inner = (after.copies, after.memory) if self.window.memory else (after.copies,)
        return replace(before, out=after.centre[:, : before.out.shape[1]], inner=inner, segment=self.window.segment)

    @property
    def chunk_frames(self) -> int:
        return self.frontend.subsampling_factor * self.window.segment

    @property
    def look_ahead_frames(self) -> int:
        return self._input_frames(self.window.computed) - self.chunk_frames

    def _input_frames(self, frames: int) -> int:
        """Return the number of input frames that these frames behind the front end need, at least one."""
        return self.frontend.config.min_frames + (frames - 1) * self.frontend.subsampling_factor

    def init_state(self, n: int, device: torch.device, subnet: Subnet | None = None) -> EncoderState:
        refuse_pathway(subnet)
        subnet = subnet or MAX
        caches = tuple(
            self._layer(index).init_cache(n, subnet.width, layer_units(subnet, index, MODULES), device)
            for index in self.path_of(subnet)
        )
        # No input frame is waiting yet.
        frames = torch.zeros(n, 0, self.num_mel_bins, device=device)
        return EncoderState(frames, torch.zeros(n, dtype=torch.int64, device=device), caches)

    def stream(
        self, x: Tensor, state: EncoderState, subnet: Subnet | None = None, final: bool = False
    ) -> tuple[Tensor, EncoderState]:
        subnet = subnet or MAX
        frames = torch.cat([state.frames.to(x.dtype), x], dim=1)
        available = self.output_frames(frames.shape[1])
        # A segment waits for its look-ahead, unless the stream ends.
        waiting_for = self.window.right
        new = available if final else max(0, available - waiting_for) // self.window.segment * self.window.segment
        # The front end runs again on the look-ahead, which the next segment needs as its own frames.
        left = frames[:, frames.shape[1] if final else new * self.frontend.subsampling_factor :]
        if new == 0:
            return x.new_zeros(x.shape[0], 0, self.width_of(subnet)), replace(state, frames=left)
        used = self._input_frames(min(available, new + self.window.right))
        # All frames of a stream are valid.
        lens = torch.full_like(state.seen, used)
        embedded = self.frontend(frames[:, :used], lens, subnet.width, self.width_of(subnet))
        out, caches = self._stream_layers(embedded, new, state, subnet)
        return out, EncoderState(left, state.seen + new, caches)

    def _stream_layers(
        self, embedded: Tensor, new: int, state: EncoderState, subnet: Subnet
    ) -> tuple[Tensor, tuple[tuple[Tensor, ...], ...]]:
        """Run the layers on (n, T', C) frames behind the front end, ``new`` of them and their look-ahead."""
        lens = torch.full_like(state.seen, new)
        layout = chunk_layout(self.window, new, lens, torch.full_like(state.seen, embedded.shape[1]), state.seen)
        hidden = into_segments(embedded, layout)
        caches = []
        for index, (attended, convolved) in zip(self.path_of(subnet), state.layers, strict=True):
            units = layer_units(subnet, index, MODULES)
            before = (attended, convolved)
            hidden, after = self._layer(index).stream(hidden, layout, before, subnet.width, units)
            caches.append(after)
        return hidden.centre[:, :new], tuple(caches)

    def count_frontend(self, subnet: Subnet, num_frames: int) -> Count:
        outer = self.width_of(subnet)
        total = self.frontend.count(subnet.width, outer, num_frames)
        frames, window = self.output_frames(num_frames), self.window
        # A device runs it segment by segment, on the look-ahead of each as well.
        macs = 0
        for start in range(0, frames, window.segment):
            used = self._input_frames(min(window.computed, frames - start))
            macs += self.frontend.count(subnet.width, outer, used).macs
        return replace(total, macs=macs)

    def module_name(self, layer: int, module: str) -> str:
        return f"layers.{layer}.parts.{module}"

    def count_layer(self, index: int, subnet: Subnet, frames: int) -> Count:
        return self._layer(index).count(
            self.width_of(subnet), subnet.width, layer_units(subnet, index, MODULES), frames
        )

    @classmethod
    def shrink(cls, config: EncoderConfig, subnet: Subnet) -> EmformerConfig:
        assert isinstance(config, EmformerConfig)
        width = subnet.width
        by_count = config.slimming == "head_count"
        path = path_of(config, subnet)
        changes: dict[str, object] = {
            "d_model": scaled(config.d_model, width),
            "num_layers": len(path),
            "tree": None,
            "num_heads": scaled(config.num_heads, width) if by_count else config.num_heads,
            "head_dim": config.head_channels if by_count else scaled(config.head_channels, width),
            "ffn_dim": scaled(config.ffn_dim, width),
            **dict.fromkeys(config.listed_sizes.values()),
        }
        # Sizes are listed layer by layer only if the common sizes above do not describe all layers.
        if subnet.units or any(getattr(config, key) is not None for key in config.listed_sizes.values()):
            units = [layer_units(subnet, i, MODULES) for i in path]
            sizes = [
                shrunk_sizes(config.layer_units[i], width, chosen, by_count=by_count)
                for i, chosen in zip(path, units, strict=True)
            ]
            for module, key in config.listed_sizes.items():
                changes[key] = [layer[module] for layer in sizes]
        return config.model_copy(update=changes)

    def extract(self, subnet: Subnet) -> Emformer:
        channels = self.width_of(subnet)
        config = self.shrink(self.config, subnet)
        frontend = shrink_frontend(self.frontend.config, subnet.width)
        encoder = Emformer(config, frontend, self.num_mel_bins, (1.0,))
        encoder.frontend = self.frontend.extract(subnet.width, channels)
        options = options_of(config)
        encoder.layers = nn.ModuleList(
            self._layer(i).extract(options, channels, subnet.width, layer_units(subnet, i, MODULES))
            for i in self.path_of(subnet)
        )
        return encoder


def window_of(config: EmformerConfig) -> Window:
    """Return what a segment sees."""
    history = 0 if config.conv_kernel is None else config.conv_kernel - 1
    return Window(config.segment, config.left_context, config.right_context, config.memory, history)


def options_of(config: EmformerConfig) -> EmformerOptions:
    """Return the settings that all layers share."""
    return EmformerOptions(
        window_of(config),
        config.head_channels,
        position=config.position,
        squash=config.memory_squash,
        slimming=config.slimming,
        norm=config.norm,
        dropout=config.dropout,
        adaptive_dropout=config.adaptive_dropout,
        macaron=config.macaron,
    )
