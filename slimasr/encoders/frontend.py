"""Front ends: from features to the input of the first encoder layer; and the sinusoids of positions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimasr.elastic.index import scaled
from slimasr.elastic.linear import ElasticConv2d, ElasticLinear
from slimasr.supernet.cost import Count


class ConvFrontend(nn.Module):
    """Two 3x3 convolutions of stride 2, then a linear layer: time reduced 4 times (paper 1).

    No padding: an output frame inside ``output_lens`` sees valid frames alone, so padding cannot leak in. Channels
    are the slow index when flattened, so a channel slice is a prefix.
    """

    subsampling_factor = 4

    def __init__(self, num_mel_bins: int, channels: int, d_model: int, dropout: float) -> None:
        super().__init__()
        self.num_mel_bins = num_mel_bins
        self.channels = channels
        self.conv1 = ElasticConv2d(1, channels, 3, 2)
        self.conv2 = ElasticConv2d(channels, channels, 3, 2)
        self.bins1 = self.conv1.output_size(num_mel_bins)
        self.bins2 = self.conv2.output_size(self.bins1)
        self.linear = ElasticLinear(channels * self.bins2, d_model)
        self.dropout = nn.Dropout(dropout)

    def output_lens(self, x_lens: Tensor) -> Tensor:
        """(N,) frames after both convolutions."""
        return (((x_lens - 1) // 2 - 1) // 2).clamp(min=0)

    def forward(self, x: Tensor, width: float, outer: int) -> Tensor:
        """(N, T, F) features -> (N, T', outer)."""
        channels = scaled(self.channels, width)
        x = F.silu(self.conv1(x.unsqueeze(1), out=channels))
        x = F.silu(self.conv2(x, out=channels, inp=channels))
        x = x.transpose(1, 2).flatten(2)
        return self.dropout(self.linear(x, out=outer, inp=channels * self.bins2))

    def count(self, width: float, outer: int, frames: int) -> Count:
        """Size and work on ``frames`` input frames."""
        channels = scaled(self.channels, width)
        frames1 = self.conv1.output_size(frames)
        frames2 = self.conv2.output_size(frames1)
        return (
            self.conv1.count(channels, 1, frames1 * self.bins1)
            + self.conv2.count(channels, channels, frames2 * self.bins2)
            + self.linear.count(outer, channels * self.bins2, frames2)
        )

    def extract(self, width: float, outer: int) -> ConvFrontend:
        """A stand-alone front end."""
        channels = scaled(self.channels, width)
        frontend = ConvFrontend(self.num_mel_bins, channels, outer, self.dropout.p)
        frontend.conv1 = self.conv1.extract(channels)
        frontend.conv2 = self.conv2.extract(channels, channels)
        frontend.linear = self.linear.extract(outer, channels * self.bins2)
        return frontend


def sinusoids(positions: Tensor, dim: int) -> Tensor:
    """(P,) positions -> (P, dim), sine and cosine of one frequency side by side."""
    rates = torch.exp(torch.arange(0, dim, 2, device=positions.device) * (-math.log(10000.0) / dim))
    angles = positions.to(torch.float32).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :dim]
