"""Front ends, which turn features into the input of the first encoder layer, and sinusoidal positions."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimasr.config.model import ConvFrontendConfig, FrontendConfig, StackFrontendConfig, VggFrontendConfig
from slimasr.elastic.dropout import Dropout
from slimasr.elastic.linear import ElasticConv2d, ElasticLinear
from slimasr.encoders.padding import padding_mask
from slimasr.supernet.cost import Count
from slimasr.supernet.subnet import scaled


class Frontend(nn.Module, ABC):
    """Reduces the frame rate and maps frames to ``d_model`` channels; a subnet uses the first ``outer`` of them."""

    subsampling_factor: int

    @property
    @abstractmethod
    def config(self) -> FrontendConfig:
        """The configuration from which the front end was built."""

    @abstractmethod
    def output_lens(self, x_lens: Tensor) -> Tensor:
        """Return the (N,) output frames for (N,) input frames."""

    @abstractmethod
    def forward(self, x: Tensor, lens: Tensor, width: float, outer: int) -> Tensor:
        """(N, T, F) features -> (N, T', outer).

        Args:
            lens: (N,) int64 input frames of every utterance, on any device; what lies behind them is padding.
            width: fraction of inner channels that run.
            outer: number of output channels, the residual width of the subnet.
        """

    @abstractmethod
    def count(self, width: float, outer: int, frames: int) -> Count:
        """Count the parameters, and the MACs of ``frames`` input frames."""

    @abstractmethod
    def extract(self, width: float, outer: int) -> Frontend:
        """Copy one width into a stand-alone front end; the arguments are those of `forward`."""


class ConvFrontend(Frontend):
    """Two 3x3 convolutions of stride 2, then a linear layer: reduces the frame rate by 4 (paper 1).

    There is no padding: an output frame inside ``output_lens`` sees only valid frames. Channels are the slow index when
    flattened, so a slice of channels is a prefix.
    """

    subsampling_factor = 4

    def __init__(self, config: ConvFrontendConfig, num_mel_bins: int, d_model: int, dropout: float) -> None:
        super().__init__()
        self.num_mel_bins = num_mel_bins
        channels = config.channels
        self.channels = channels
        self.conv1 = ElasticConv2d(1, channels, 3, 2)
        self.conv2 = ElasticConv2d(channels, channels, 3, 2)
        # Frequency bins after each convolution
        self.bins1 = self.conv1.output_size(num_mel_bins)
        self.bins2 = self.conv2.output_size(self.bins1)
        self.linear = ElasticLinear(channels * self.bins2, d_model)
        self.dropout = Dropout(dropout)

    def output_lens(self, x_lens: Tensor) -> Tensor:
        # `ElasticConv2d.output_size` twice; an input shorter than the filters has no output.
        return (((x_lens - 1) // 2 - 1) // 2).clamp(min=0)

    @property
    def config(self) -> ConvFrontendConfig:
        return ConvFrontendConfig(channels=self.channels)

    def forward(self, x: Tensor, lens: Tensor, width: float, outer: int) -> Tensor:
        channels = scaled(self.channels, width)
        # (N, T, F) -> (N, 1, T, F) -> (N, channels, T', F')
        x = F.silu(self.conv1(x.unsqueeze(1), out=channels))
        x = self.conv2(x, out=channels, inp=channels)
        # (N, T', channels * F'), channels slow. The activation comes after this copy, because its gradient would
        # otherwise arrive in another order of dimensions, which takes a CPU several times as long.
        x = F.silu(x.transpose(1, 2).flatten(2))
        return self.dropout(self.linear(x, out=outer, inp=channels * self.bins2))

    def count(self, width: float, outer: int, frames: int) -> Count:
        channels = scaled(self.channels, width)
        frames1 = self.conv1.output_size(frames)
        frames2 = self.conv2.output_size(frames1)
        return (
            self.conv1.count(channels, 1, frames1 * self.bins1)
            + self.conv2.count(channels, channels, frames2 * self.bins2)
            + self.linear.count(outer, channels * self.bins2, frames2)
        )

    def extract(self, width: float, outer: int) -> ConvFrontend:
        channels = scaled(self.channels, width)
        frontend = ConvFrontend(ConvFrontendConfig(channels=channels), self.num_mel_bins, outer, self.dropout.p)
        frontend.conv1 = self.conv1.extract(channels)
        frontend.conv2 = self.conv2.extract(channels, channels)
        frontend.linear = self.linear.extract(outer, channels * self.bins2)
        return frontend


class StackFrontend(Frontend):
    """A linear layer per feature frame, then ``factor`` frames stacked into one (paper 2).

    Frames are the fast index when stacked, so the first channels of the output are the first channels of every frame,
    and a slice is a prefix. An incomplete last stack is dropped, which excludes padding.
    """

    def __init__(self, config: StackFrontendConfig, num_mel_bins: int, d_model: int, dropout: float) -> None:
        """Create the front end with random weights.

        Raises:
            ValueError: ``d_model`` is not a multiple of ``factor``.
        """
        super().__init__()
        self.num_mel_bins = num_mel_bins
        self.subsampling_factor = config.factor
        self.linear = ElasticLinear(num_mel_bins, self._per_frame(d_model))
        self.dropout = Dropout(dropout)

    def _per_frame(self, outer: int) -> int:
        if outer % self.subsampling_factor:
            raise ValueError(f"{outer} channels cannot be shared by {self.subsampling_factor} stacked frames")
        return outer // self.subsampling_factor

    def output_lens(self, x_lens: Tensor) -> Tensor:
        return x_lens // self.subsampling_factor

    @property
    def config(self) -> StackFrontendConfig:
        return StackFrontendConfig(factor=self.subsampling_factor)

    def forward(self, x: Tensor, lens: Tensor, width: float, outer: int) -> Tensor:
        frames = x.shape[1] // self.subsampling_factor
        x = self.linear(x[:, : frames * self.subsampling_factor], out=self._per_frame(outer))
        # (N, T' * factor, c) -> (N, T', factor, c) -> (N, T', c, factor) -> (N, T', c * factor)
        stacked = x.unflatten(1, (frames, self.subsampling_factor)).transpose(2, 3).flatten(2)
        return self.dropout(stacked)

    def count(self, width: float, outer: int, frames: int) -> Count:
        # Frames of an incomplete last stack are not projected at all.
        used = frames - frames % self.subsampling_factor
        return self.linear.count(self._per_frame(outer), self.num_mel_bins, used)

    def extract(self, width: float, outer: int) -> StackFrontend:
        frontend = StackFrontend(self.config, self.num_mel_bins, outer, self.dropout.p)
        frontend.linear = self.linear.extract(self._per_frame(outer))
        return frontend


class VggFrontend(Frontend):
    """Two pairs of padded 3x3 convolutions, each followed by ReLU and a maximum over two frames, then a linear layer.

    It reduces the frame rate by 4 (paper 4). What lies behind an utterance's end is set to 0 before every convolution,
    as the convolution itself sees zeros there when the utterance runs alone. An odd last frame is not part of a maximum
    and is dropped. Channels are the slow index when flattened, so a slice of channels is a prefix.
    """

    subsampling_factor = 4

    def __init__(self, config: VggFrontendConfig, num_mel_bins: int, d_model: int, dropout: float) -> None:
        super().__init__()
        self.num_mel_bins = num_mel_bins
        self.channels = config.channels
        pairs = itertools.pairwise((1, *config.channels))
        self.convs = nn.ModuleList(ElasticConv2d(inp, out, 3, 1, border=1) for inp, out in pairs)
        self.linear = ElasticLinear(config.channels[-1] * num_mel_bins, d_model)
        self.dropout = Dropout(dropout)

    def output_lens(self, x_lens: Tensor) -> Tensor:
        return x_lens // self.subsampling_factor

    @property
    def config(self) -> VggFrontendConfig:
        return VggFrontendConfig(channels=self.channels)

    def forward(self, x: Tensor, lens: Tensor, width: float, outer: int) -> Tensor:
        # A convolution cannot run on the empty result of the first maximum. Exported graphs get longer input, and would
        # keep the comparison as a condition on it.
        if not torch.compiler.is_compiling() and x.shape[1] < self.subsampling_factor:
            return x.new_zeros(x.shape[0], 0, outer)
        channels = self._channels(width)
        # (N, T, F) -> (N, 1, T, F)
        x = x.unsqueeze(1)
        inp = 1
        for index, (conv, out) in enumerate(zip(self.convs, channels, strict=True)):
            x = conv(_without_padding(x, lens), out=out, inp=inp)
            inp = out
            if index % 2 == 1:
                x = F.max_pool2d(F.relu(x), (2, 1))
                lens = lens // 2
        # (N, c, T', F) -> (N, T', c * F), channels slow
        x = x.transpose(1, 2).flatten(2)
        return self.dropout(self.linear(x, out=outer, inp=inp * self.num_mel_bins))

    def _channels(self, width: float) -> list[int]:
        """Return the channels of every convolution that run at a width."""
        return [scaled(channels, width) for channels in self.channels]

    def count(self, width: float, outer: int, frames: int) -> Count:
        total = Count()
        inp = 1
        for index, (conv, out) in enumerate(zip(self.convs, self._channels(width), strict=True)):
            total += cast(ElasticConv2d, conv).count(out, inp, frames * self.num_mel_bins)
            inp = out
            if index % 2 == 1:
                frames //= 2
        return total + self.linear.count(outer, inp * self.num_mel_bins, frames)

    def extract(self, width: float, outer: int) -> VggFrontend:
        channels = self._channels(width)
        config = VggFrontendConfig.model_validate({"channels": channels})
        frontend = VggFrontend(config, self.num_mel_bins, outer, self.dropout.p)
        frontend.convs = nn.ModuleList(
            cast(ElasticConv2d, conv).extract(out, inp)
            for conv, (inp, out) in zip(self.convs, itertools.pairwise((1, *channels)), strict=True)
        )
        frontend.linear = self.linear.extract(outer, channels[-1] * self.num_mel_bins)
        return frontend


def _without_padding(x: Tensor, lens: Tensor) -> Tensor:
    """Set the frames of (N, c, T, F) images behind the (N,) ends of their utterances to 0."""
    padding = padding_mask(lens, x.shape[2], x.device)
    return x.masked_fill(padding[:, None, :, None], 0.0)


def build_frontend(config: FrontendConfig, num_mel_bins: int, d_model: int, dropout: float) -> Frontend:
    """Build the front end that a recipe names under ``model.frontend.kind``."""
    if config.kind == "conv":
        return ConvFrontend(config, num_mel_bins, d_model, dropout)
    if config.kind == "vgg":
        return VggFrontend(config, num_mel_bins, d_model, dropout)
    return StackFrontend(config, num_mel_bins, d_model, dropout)


def shrink_frontend(config: FrontendConfig, width: float) -> FrontendConfig:
    """Return the configuration of the stand-alone front end at a width."""
    if config.kind == "conv":
        return config.model_copy(update={"channels": scaled(config.channels, width)})
    if config.kind == "vgg":
        return config.model_copy(update={"channels": tuple(scaled(number, width) for number in config.channels)})
    return config


def sinusoids(positions: Tensor, dim: int) -> Tensor:
    """(P,) positions -> (P, dim), with sine and cosine of each frequency next to each other."""
    rates = torch.exp(torch.arange(0, dim, 2, device=positions.device) * (-math.log(10000.0) / dim))
    angles = positions.to(torch.float32).unsqueeze(1) * rates
    # Interleaved, so that a slice of the first channels keeps whole pairs; an odd ``dim`` cuts the last cosine.
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :dim]
