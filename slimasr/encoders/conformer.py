"""The elastic Conformer encoder, with the slimming rules of paper 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from slimasr.config.encoders import ConformerConfig, EncoderConfig, LayerSizes
from slimasr.config.model import FrontendConfig
from slimasr.elastic.attention import ElasticAttention, Heads
from slimasr.elastic.conv_module import ElasticConvModule
from slimasr.elastic.feed_forward import ElasticFeedForward
from slimasr.elastic.index import size_of
from slimasr.elastic.norm import ElasticLayerNorm
from slimasr.encoders.base import Encoder, EncoderOutput, Known, path_of
from slimasr.encoders.frontend import shrink_frontend, sinusoids
from slimasr.encoders.padding import padding_mask
from slimasr.encoders.sizes import layer_units, shrunk_sizes
from slimasr.supernet.cost import Count
from slimasr.supernet.subnet import Subnet, Units, scaled

MODULES = ("ffn1", "heads", "conv", "ffn2")
"""Modules of a layer in their default order, named like the fields of `LayerSizes`. In these `Subnet.units` chooses
hidden channels, heads, inner channels and hidden channels."""

LAST = MODULES[-1]
"""The module in the second half of a layer (`Encoder.half_runner`), the last in every order."""


class ConformerLayer(nn.Module):
    """One block; a module whose size is 0 is absent.

    x <- x + FFN1(x) / 2;  x <- x + MHSA(x);  x <- x + Conv(x);  x <- LayerNorm(x + FFN2(x) / 2), all pre-norm, where
    the recipe's ``order`` may rearrange the modules before the last.
    """

    def __init__(self, config: ConformerConfig, sizes: LayerSizes, widths: Sequence[int]) -> None:
        """Create the layer with random weights.

        Args:
            sizes: units of each module at width 1.
            widths: residual widths that get their own norms.
        """
        super().__init__()
        d = config.d_model
        p = config.dropout
        mode = config.norm
        position_dim = config.position_dim or d
        self.sizes = sizes
        self.order = tuple(config.order)
        self.norms = nn.ModuleDict()
        self.parts = nn.ModuleDict()
        if sizes.ffn1:
            self.parts["ffn1"] = ElasticFeedForward(d, sizes.ffn1, p, adaptive=config.adaptive_dropout)
        if sizes.heads:
            relative = position_dim if config.attention == "relative" else None
            attended = config.attention_dropout
            self.parts["heads"] = ElasticAttention(
                d, sizes.heads, config.head_dim, relative, config.slimming, p, attended
            )
        if sizes.conv:
            # The module's own norm normalises inner channels, so it is selected by their number at each residual width.
            inner = [round(sizes.conv * width / d) for width in widths]
            self.parts["conv"] = ElasticConvModule(d, sizes.conv, config.kernel_size, inner, mode, p, config.conv_norm)
        if sizes.ffn2:
            self.parts["ffn2"] = ElasticFeedForward(d, sizes.ffn2, p, adaptive=config.adaptive_dropout)
        # Pre-norms exist only for the modules that exist.
        for name in self.parts:
            self.norms[name] = ElasticLayerNorm(d, widths, mode)
        self.norms["out"] = ElasticLayerNorm(d, widths, mode)

    def forward(
        self,
        x: Tensor,
        padding: Tensor,
        positions: Tensor | None,
        width: float,
        units: dict[str, Units | None],
    ) -> Tensor:
        """(N, T, C) -> (N, T, C).

        Args:
            padding: (N, T), True on padding.
            positions: see `ElasticAttention.forward`.
            width: fraction of channels that run.
            units: module -> units that run, None = all that the width allows, 0 = leave the module out.
        """
        x = self.first_half(x, padding, positions, width, units)
        return self.second_half(x, width, units)

    def first_half(
        self,
        x: Tensor,
        padding: Tensor,
        positions: Tensor | None,
        width: float,
        units: dict[str, Units | None],
    ) -> Tensor:
        """Run all modules before the last: (N, T, C) -> (N, T, C)."""
        for name in self.running(units):
            if name == LAST:
                break
            part = self.parts[name]
            normed = self.norms[name](x)
            chosen = units[name]
            if name == "heads":
                x = x + part(normed, padding, positions, width, chosen)
            elif name == "conv":
                x = x + part(normed, padding, width, chosen)
            else:
                # The two feed-forward modules are half-step residuals.
                x = x + 0.5 * part(normed, width, chosen)
        return x

    def second_half(self, x: Tensor, width: float, units: dict[str, Units | None]) -> Tensor:
        """Run the last module and the norm after it: (N, T, C) -> (N, T, C)."""
        if LAST in self.running(units):
            x = x + 0.5 * self.parts[LAST](self.norms[LAST](x), width, units[LAST])
        return cast(Tensor, self.norms["out"](x))

    def running(self, units: dict[str, Units | None]) -> list[str]:
        """Return the modules that run, in order."""
        # A choice of 0 units, or of no index, omits the module together with its norm.
        return [name for name in self.order if name in self.parts and units[name] not in (0, ())]

    def count(self, channels: int, width: float, units: dict[str, Units | None], frames: int) -> Count:
        """Count the parameters, and the MACs of one utterance of ``frames`` frames."""
        total = cast(ElasticLayerNorm, self.norms["out"]).count(channels)
        for name in self.running(units):
            part = cast(ElasticFeedForward, self.parts[name])
            total += part.count(channels, width, units[name], frames)
            total += cast(ElasticLayerNorm, self.norms[name]).count(channels)
        return total

    def chosen_sizes(self, width: float, units: dict[str, Units | None]) -> LayerSizes:
        """Return the sizes of the stand-alone layer."""
        sizes = dict.fromkeys(MODULES, 0)
        for name in self.running(units):
            chosen = cast(ElasticFeedForward | ElasticAttention, self.parts[name]).chosen(width, units[name])
            sizes[name] = chosen.number if isinstance(chosen, Heads) else size_of(chosen)
        return LayerSizes(**sizes)

    def extract(
        self, config: ConformerConfig, channels: int, width: float, units: dict[str, Units | None]
    ) -> ConformerLayer:
        """Copy one subnet into a stand-alone layer; ``config`` is that of the stand-alone encoder."""
        layer = ConformerLayer(config, self.chosen_sizes(width, units), (channels,))
        for name in self.running(units):
            part = cast(ElasticFeedForward, self.parts[name])
            layer.parts[name] = part.extract(channels, width, units[name])
        # The norms of the new layer are those of its own modules and "out".
        for name in layer.norms:
            layer.norms[name] = cast(ElasticLayerNorm, self.norms[name]).extract(channels)
        return layer


class Conformer(Encoder):
    """Front end and Conformer layers at any width of the space, any path, any choice of units."""

    config: ConformerConfig
    first_half = MODULES[:-1]

    def __init__(
        self, config: ConformerConfig, frontend: FrontendConfig, num_mel_bins: int, widths: Sequence[float]
    ) -> None:
        """Build front end and layers with random weights.

        Args:
            widths: the fractions that get their own norms.

        Raises:
            ValueError: a number of channels is not whole at some width.
        """
        super().__init__(config, frontend, num_mel_bins, widths)
        residual = [scaled(config.d_model, width) for width in widths]
        self.layers = nn.ModuleList(ConformerLayer(config, sizes, residual) for sizes in layer_sizes(config))
        # Counting scales every number of channels, so an impossible width fails here and not in training.
        for width in widths:
            self.count(Subnet(width), 100)

    def embed(self, x: Tensor, x_lens: Tensor, subnet: Subnet | None = None) -> EncoderOutput:
        hidden = super().embed(x, x_lens, subnet)
        if self.config.attention != "plain":
            return hidden
        # Scale and sinusoids are those of width 1, of which a narrower subnet takes the first channels.
        frames = torch.arange(hidden.out.shape[1], device=hidden.out.device)
        added = sinusoids(frames, self._position_dim)[:, : hidden.out.shape[2]]
        return replace(hidden, out=hidden.out * math.sqrt(self._position_dim) + added.to(hidden.out.dtype))

    def layer_runner(self, hidden: EncoderOutput, subnet: Subnet) -> Callable[[int, EncoderOutput], EncoderOutput]:
        padding, positions = self._shared_by_layers(hidden)

        def run(index: int, hidden: EncoderOutput) -> EncoderOutput:
            units = layer_units(subnet, index, MODULES)
            return replace(hidden, out=self.layers[index](hidden.out, padding, positions, subnet.width, units))

        return run

    def half_runner(
        self, hidden: EncoderOutput, subnet: Subnet, known: Known
    ) -> Callable[[int, int, EncoderOutput], EncoderOutput]:
        padding, positions = self._shared_by_layers(hidden)

        def run(index: int, half: int, hidden: EncoderOutput) -> EncoderOutput:
            layer = cast(ConformerLayer, self.layers[index])
            units = layer_units(subnet, index, MODULES)
            if half == 0:
                return replace(hidden, out=layer.first_half(hidden.out, padding, positions, subnet.width, units))
            return replace(hidden, out=layer.second_half(hidden.out, subnet.width, units))

        return run

    def _shared_by_layers(self, hidden: EncoderOutput) -> tuple[Tensor, Tensor | None]:
        """Return the (N, T) padding mask and the relative positions, None if the encoder has none."""
        frames = hidden.out.shape[1]
        positions = None
        if self.config.attention == "relative":
            # T ... -(T - 1), as `ElasticAttention.forward` expects them
            distances = torch.arange(frames, -frames, -1, device=hidden.out.device)
            positions = sinusoids(distances, self._position_dim).to(hidden.out.dtype)
        return padding_mask(hidden.lens, frames, hidden.out.device), positions

    @property
    def _position_dim(self) -> int:
        return self.config.position_dim or self.config.d_model

    def module_name(self, layer: int, module: str) -> str:
        return f"layers.{layer}.parts.{module}"

    def count_layer(self, index: int, subnet: Subnet, frames: int) -> Count:
        layer = cast(ConformerLayer, self.layers[index])
        return layer.count(self.width_of(subnet), subnet.width, layer_units(subnet, index, MODULES), frames)

    @classmethod
    def shrink(cls, config: EncoderConfig, subnet: Subnet) -> ConformerConfig:
        assert isinstance(config, ConformerConfig)
        width = subnet.width
        path = path_of(config, subnet)
        by_count = config.slimming == "head_count"
        changes: dict[str, object] = {
            "d_model": scaled(config.d_model, width),
            "num_layers": len(path),
            "tree": None,
            "num_heads": scaled(config.num_heads, width) if by_count else config.num_heads,
            "head_dim": config.head_dim if by_count else scaled(config.head_dim, width),
            "ffn_dim": scaled(config.ffn_dim, width),
            # Positions are not sliced, so the stand-alone encoder keeps the dimension of the supernet.
            "position_dim": config.position_dim or config.d_model,
            "layers": None,
        }
        # Sizes are listed layer by layer only if the common sizes above do not describe all layers.
        if config.layers is not None or subnet.units:
            units = [layer_units(subnet, i, MODULES) for i in path]
            changes["layers"] = [
                LayerSizes(**shrunk_sizes(config.layer_units[i], width, chosen, by_count=by_count))
                for i, chosen in zip(path, units, strict=True)
            ]
        return config.model_copy(update=changes)

    def extract(self, subnet: Subnet) -> Conformer:
        channels = self.width_of(subnet)
        config = self.shrink(self.config, subnet)
        frontend = shrink_frontend(self.frontend.config, subnet.width)
        encoder = Conformer(config, frontend, self.num_mel_bins, (1.0,))
        encoder.frontend = self.frontend.extract(subnet.width, channels)
        encoder.layers = nn.ModuleList(
            cast(ConformerLayer, self.layers[i]).extract(
                config, channels, subnet.width, layer_units(subnet, i, MODULES)
            )
            for i in self.path_of(subnet)
        )
        return encoder


def layer_sizes(config: ConformerConfig) -> list[LayerSizes]:
    """Return the sizes of all layers at width 1."""
    return [LayerSizes(**units) for units in config.layer_units]
