"""The elastic encoder of multi-head state-space layers: no attention, nearly linear cost in time (paper 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from slimasr.config.encoders import EncoderConfig, MhSsmConfig
from slimasr.config.model import FrontendConfig
from slimasr.elastic.dropout import Dropout
from slimasr.elastic.feed_forward import ElasticFeedForward
from slimasr.elastic.index import size_of
from slimasr.elastic.multi_head_ssm import MultiHeadSsm, SsmOptions
from slimasr.elastic.norm import ElasticLayerNorm
from slimasr.encoders.base import MAX, Encoder, EncoderOutput, EncoderState, Known, path_of
from slimasr.encoders.frontend import shrink_frontend
from slimasr.encoders.padding import padding_mask
from slimasr.supernet.cost import Count
from slimasr.supernet.subnet import Subnet, Units, refuse_pathway, scaled, unit_count


class MhSsmLayer(nn.Module):
    """One block; a feed-forward module of size 0 is absent.

    x <- x + Drop(MHSSM(LN x));  x <- LN(x + FFN(LN x)) (paper 2; Fathullah et al. 2023).
    """

    def __init__(self, config: MhSsmConfig, hidden: int, widths: Sequence[int]) -> None:
        """Create the layer with random weights.

        Args:
            hidden: channels of the feed-forward module at width 1; 0 = no such module.
            widths: residual widths that get their own norms.
        """
        super().__init__()
        d = config.d_model
        p = config.dropout
        self.ssm = MultiHeadSsm(d, config.ssm_heads, ssm_options(config), widths)
        self.ffn = ElasticFeedForward(d, hidden, p, "gelu", adaptive=config.adaptive_dropout) if hidden else None
        self.dropout = Dropout(p)
        names = ("ssm", "ffn", "out") if hidden else ("ssm", "out")
        self.norms = nn.ModuleDict({name: ElasticLayerNorm(d, widths, config.norm) for name in names})

    def forward(self, x: Tensor, padding: Tensor, width: float, units: Units | None) -> Tensor:
        """(N, T, C) -> (N, T, C).

        Args:
            padding: (N, T), True on padding.
            width: fraction of channels that run.
            units: hidden channels of the feed-forward module; None = all that the width allows, 0 = no module.
        """
        return self.second_half(self.first_half(x, padding), width, units)

    def first_half(self, x: Tensor, padding: Tensor, responses: Sequence[Tensor] | None = None) -> Tensor:
        """Run the part of the layer that mixes frames: (N, T, C) -> (N, T, C); see `MultiHeadSsm.forward`."""
        mixed = self.ssm(self.norms["ssm"](x), padding, responses)
        return cast(Tensor, x + self.dropout(mixed))

    def stream(self, x: Tensor, state: Tensor, width: float, units: Units | None) -> tuple[Tensor, Tensor]:
        """Run the next (n, T, C) frames from a state of `MultiHeadSsm.init_state` -> (n, T, C) and the next state."""
        out, state = self.ssm.stream(self.norms["ssm"](x), state)
        return self.second_half(x + self.dropout(out), width, units), state

    def second_half(self, x: Tensor, width: float, units: Units | None) -> Tensor:
        """Run the part of the layer that treats every frame separately, which `forward` and `stream` share."""
        if self.ffn is not None and units not in (0, ()):
            x = x + self.ffn(self.norms["ffn"](x), width, units)
        return cast(Tensor, self.norms["out"](x))

    def hidden(self, width: float, units: Units | None) -> int:
        """Return the number of feed-forward channels that run."""
        if self.ffn is None or units in (0, ()):
            return 0
        return size_of(self.ffn.chosen(width, units))

    def count(self, channels: int, width: float, units: Units | None, frames: int) -> Count:
        """Count the parameters, and the MACs of one utterance of ``frames`` frames."""
        total = self.ssm.count(channels, frames)
        norms = ["ssm", "out"]
        if self.ffn is not None and self.hidden(width, units):
            total += self.ffn.count(channels, width, units, frames)
            norms.append("ffn")
        for name in norms:
            total += cast(ElasticLayerNorm, self.norms[name]).count(channels)
        return total

    def extract(self, config: MhSsmConfig, channels: int, width: float, units: Units | None) -> MhSsmLayer:
        """Copy one subnet into a stand-alone layer; ``config`` is that of the stand-alone encoder."""
        layer = MhSsmLayer(config, self.hidden(width, units), (channels,))
        layer.ssm = self.ssm.extract(channels)
        if layer.ffn is not None and self.ffn is not None:
            layer.ffn = self.ffn.extract(channels, width, units)
        for name in layer.norms:
            layer.norms[name] = cast(ElasticLayerNorm, self.norms[name]).extract(channels)
        return layer


class MhSsm(Encoder):
    """Front end and MH-SSM layers at any width of the space, any path, any choice of feed-forward channels.

    With ``bidirectional: false``, every frame depends only on the past, and `stream` is equivalent to `forward`.
    """

    config: MhSsmConfig
    first_half = ()

    def __init__(
        self, config: MhSsmConfig, frontend: FrontendConfig, num_mel_bins: int, widths: Sequence[float]
    ) -> None:
        """Build front end and layers with random weights.

        Args:
            widths: the fractions that get their own norms.

        Raises:
            ValueError: a number of channels is not whole at some width, or not divisible by heads or stacked frames.
        """
        super().__init__(config, frontend, num_mel_bins, widths)
        residual = [scaled(config.d_model, width) for width in widths]
        self.layers = nn.ModuleList(MhSsmLayer(config, hidden, residual) for hidden in ffn_dims(config))
        # Counting scales every number of channels, so an impossible width fails here and not in training.
        for width in widths:
            self.count(Subnet(width), 100)

    def layer_runner(self, hidden: EncoderOutput, subnet: Subnet) -> Callable[[int, EncoderOutput], EncoderOutput]:
        padding = padding_mask(hidden.lens, hidden.out.shape[1], hidden.out.device)

        def run(index: int, hidden: EncoderOutput) -> EncoderOutput:
            units = subnet.units_of(index, "ffn")
            return replace(hidden, out=self.layers[index](hidden.out, padding, subnet.width, units))

        return run

    def half_runner(
        self, hidden: EncoderOutput, subnet: Subnet, known: Known
    ) -> Callable[[int, int, EncoderOutput], EncoderOutput]:
        padding = padding_mask(hidden.lens, hidden.out.shape[1], hidden.out.device)

        def run(index: int, half: int, hidden: EncoderOutput) -> EncoderOutput:
            layer = cast(MhSsmLayer, self.layers[index])
            x = hidden.out
            if half == 0:
                channels = x.shape[-1]
                compute = partial(layer.ssm.responses, channels)
                responses = known.get((index, channels), x.shape[1], compute)
                return replace(hidden, out=layer.first_half(x, padding, responses))
            return replace(hidden, out=layer.second_half(x, subnet.width, subnet.units_of(index, "ffn")))

        return run

    @property
    def chunk_frames(self) -> int:
        self._check_streaming()
        return self.frontend.subsampling_factor

    @property
    def look_ahead_frames(self) -> int:
        self._check_streaming()
        # The layers see only the past, but the front end's filters may be longer than its step.
        return self.frontend.config.min_frames - self.frontend.subsampling_factor

    def _check_streaming(self) -> None:
        """Raise an error if a direction runs backwards."""
        if self.config.bidirectional:
            raise self._not_streaming()

    def init_state(self, n: int, device: torch.device, subnet: Subnet | None = None) -> EncoderState:
        self._check_streaming()
        refuse_pathway(subnet)
        channels = self.width_of(subnet)
        layers = [cast(MhSsmLayer, self.layers[index]) for index in self.path_of(subnet)]
        states = tuple((layer.ssm.init_state(n, channels, device),) for layer in layers)
        # No input frame is waiting yet.
        frames = torch.zeros(n, 0, self.num_mel_bins, device=device)
        return EncoderState(frames, torch.zeros(n, dtype=torch.int64, device=device), states)

    def stream(
        self, x: Tensor, state: EncoderState, subnet: Subnet | None = None, final: bool = False
    ) -> tuple[Tensor, EncoderState]:
        self._check_streaming()
        subnet = subnet or MAX
        # Frames that were too few for an output before come first.
        frames = torch.cat([state.frames.to(x.dtype), x], dim=1)
        complete = self.output_frames(frames.shape[1])
        # Output frame t starts at input frame t * factor, so this keeps all that the next output frame needs.
        left = frames[:, frames.shape[1] if final else complete * self.frontend.subsampling_factor :]
        if complete == 0:
            return x.new_zeros(x.shape[0], 0, self.width_of(subnet)), replace(state, frames=left)
        # All frames of a stream are valid.
        lens = torch.full_like(state.seen, frames.shape[1])
        out = self.frontend(frames, lens, subnet.width, self.width_of(subnet))
        states = []
        for index, (before,) in zip(self.path_of(subnet), state.layers, strict=True):
            layer = cast(MhSsmLayer, self.layers[index])
            out, after = layer.stream(out, before, subnet.width, subnet.units_of(index, "ffn"))
            states.append((after,))
        return out, EncoderState(left, state.seen + complete, tuple(states))

    def module_name(self, layer: int, module: str) -> str:
        return f"layers.{layer}.{module}"

    def count_layer(self, index: int, subnet: Subnet, frames: int) -> Count:
        layer = cast(MhSsmLayer, self.layers[index])
        return layer.count(self.width_of(subnet), subnet.width, subnet.units_of(index, "ffn"), frames)

    @classmethod
    def shrink(cls, config: EncoderConfig, subnet: Subnet) -> MhSsmConfig:
        assert isinstance(config, MhSsmConfig)
        width = subnet.width
        sizes = ffn_dims(config)
        kept = [_shrink_ffn(sizes[i], width, subnet.units_of(i, "ffn")) for i in path_of(config, subnet)]
        # One common size is enough if all layers have it; 0 must be listed, because ``ffn_dim`` is above 0.
        alike = len(set(kept)) == 1 and kept[0] > 0
        changes: dict[str, object] = {
            "d_model": scaled(config.d_model, width),
            "num_layers": len(kept),
            "tree": None,
            "ffn_dim": kept[0] if alike else scaled(config.ffn_dim, width),
            "ffn_dims": None if alike else kept,
        }
        return config.model_copy(update=changes)

    def extract(self, subnet: Subnet) -> MhSsm:
        channels = self.width_of(subnet)
        config = self.shrink(self.config, subnet)
        frontend = shrink_frontend(self.frontend.config, subnet.width)
        encoder = MhSsm(config, frontend, self.num_mel_bins, (1.0,))
        encoder.frontend = self.frontend.extract(subnet.width, channels)
        encoder.layers = nn.ModuleList(
            cast(MhSsmLayer, self.layers[i]).extract(config, channels, subnet.width, subnet.units_of(i, "ffn"))
            for i in self.path_of(subnet)
        )
        return encoder


def ssm_options(config: MhSsmConfig) -> SsmOptions:
    """Return the settings that all heads of all layers share."""
    return SsmOptions(
        ssm_stacks=config.ssm_stacks,
        ssm_state=config.ssm_state,
        bidirectional=config.bidirectional,
        convolution=config.convolution,
        norm=config.norm,
        dt_range=(config.dt_min, config.dt_max),
        spread_heads=config.spread_heads,
        decay=config.decay,
    )


def ffn_dims(config: MhSsmConfig) -> list[int]:
    """Return the feed-forward channels of all layers at width 1."""
    return [units["ffn"] for units in config.layer_units]


def _shrink_ffn(size: int, width: float, units: Units | None) -> int:
    """Return the channels that remain of a layer's feed-forward module; 0 if it has none."""
    if size == 0:
        return 0
    return scaled(size, width) if units is None else unit_count(units)
