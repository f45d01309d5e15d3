"""Linear and convolution layers whose weights are sliced at every call."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimasr.elastic.depthwise import depthwise
from slimasr.elastic.index import Index, size_of, take
from slimasr.supernet.cost import Count, Kept


class ElasticLinear(nn.Linear):
    """``y = W[out, inp] x + b[out]``. Weights outside the slice have exactly zero gradient.

    Attributes:
        kept: how much of the whole weight is stored, None = all of it. The rest is zero; it only counts otherwise.
    """

    kept: Kept | None = None

    def forward(self, input: Tensor, out: Index | None = None, inp: Index | None = None) -> Tensor:
        """(..., inp) -> (..., out); None = the full size."""
        # Slices by prefix are views, so a narrow subnet copies no weights.
        weight = take(take(self.weight, out, 0), inp, 1)
        return F.linear(input, weight, None if self.bias is None else take(self.bias, out))

    def count(self, out: int, inp: int, calls: int) -> Count:
        """Count the parameters of the slice, and the MACs of ``calls`` input vectors."""
        # int8 export quantises the weights with one scale per output channel; the bias stays float32.
        bias = 0 if self.bias is None else out
        weights = Count(params=out * inp, quantized=out * inp, macs=calls * out * inp)
        if self.kept is not None and (out, inp) == self.weight.shape:
            weights = count_kept(self.kept, out * inp, calls)
        return weights + Count(params=bias, scales=out)

    def extract(self, out: Index | None = None, inp: Index | None = None) -> ElasticLinear:
        """Copy the slice into a stand-alone layer."""
        weight = take(take(self.weight, out, 0), inp, 1)
        layer = ElasticLinear(weight.shape[1], weight.shape[0], bias=self.bias is not None)
        layer.kept = self.kept if weight.shape == self.weight.shape else None
        _copy(layer.weight, weight)
        if self.bias is not None:
            _copy(layer.bias, take(self.bias, out))
        return layer


class ElasticConv2d(nn.Conv2d):
    """Square-kernel convolution of images of frames and bins, sliced in output and input channels."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, border: int = 0) -> None:
        """Create the layer with random weights.

        Args:
            border: rows and columns of zeros that are added on every side of the image.
        """
        super().__init__(in_channels, out_channels, kernel, stride, border)
        self.border = border

    def forward(self, input: Tensor, out: Index | None = None, inp: Index | None = None) -> Tensor:
        """(N, inp, T, F) -> (N, out, T', F')."""
        weight = take(take(self.weight, out, 0), inp, 1)
        assert self.bias is not None
        bias = take(self.bias, out)
        trains_on_cpu = input.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if weight.shape[1] == 1 and trains_on_cpu:
            return self._by_patches(input.squeeze(1), weight, bias)
        return F.conv2d(input, weight, bias, self.stride, self.border)

    def _by_patches(self, image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """(N, T, F) -> (N, out, T', F'), as a product of patches and filters.

        Its result has the channels last, for which the CPU's kernels of a next convolution and their gradients are
        faster. The front end as a whole then takes two thirds of its time.
        """
        rows, columns = (self.output_size(size) for size in image.shape[1:])
        step = self.stride[0]
        if self.border:
            image = F.pad(image, (self.border,) * 4)
        # One (N, T', F') image per entry of the filter. Stacking them takes half of the time of `unfold` and a copy.
        entries = [
            image[:, i : i + step * rows : step, j : j + step * columns : step]
            for i in range(self.kernel_size[0])
            for j in range(self.kernel_size[1])
        ]
        # (N, T', F', k^2) @ (k^2, out)
        return F.linear(torch.stack(entries, dim=-1), weight.flatten(1), bias).permute(0, 3, 1, 2)

    def output_size(self, size: int) -> int:
        """Return the number of output frames (or bins) for ``size`` input frames (or bins)."""
        return (size + 2 * self.border - self.kernel_size[0]) // self.stride[0] + 1

    def count(self, out: int, inp: int, positions: int) -> Count:
        """Count the parameters of the slice, and the MACs of ``positions`` output positions."""
        # Convolutions stay float32 in int8 export, so nothing counts as quantised.
        weights = out * inp * self.kernel_size[0] * self.kernel_size[1]
        return Count(params=weights + out, macs=positions * weights)

    def extract(self, out: Index | None = None, inp: Index | None = None) -> ElasticConv2d:
        """Copy the slice into a stand-alone layer."""
        weight = take(take(self.weight, out, 0), inp, 1)
        layer = ElasticConv2d(weight.shape[1], weight.shape[0], self.kernel_size[0], self.stride[0], self.border)
        assert self.bias is not None and layer.bias is not None
        _copy(layer.weight, weight)
        _copy(layer.bias, take(self.bias, out))
        return layer


class ElasticDepthwiseConv1d(nn.Conv1d):
    """One filter per channel over time; the number of frames is unchanged (odd kernel, zero padding)."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)

    def forward(self, input: Tensor, units: Index | None = None) -> Tensor:
        """(N, T, C) -> (N, T, C) with the filters of the channels that run."""
        return depthwise(input, *self.filters(units))

    def filters(self, units: Index | None = None) -> tuple[Tensor, Tensor]:
        """Return the (C, 1, K) filters and (C,) biases of the channels that run."""
        assert self.bias is not None
        return take(self.weight, units), take(self.bias, units)

    def count(self, channels: int, frames: int) -> Count:
        """Count the parameters of the slice, and the MACs of ``frames`` frames."""
        weights = channels * self.kernel_size[0]
        return Count(params=weights + channels, macs=frames * weights)

    def extract(self, units: Index) -> ElasticDepthwiseConv1d:
        """Copy the slice into a stand-alone layer."""
        layer = ElasticDepthwiseConv1d(size_of(units), self.kernel_size[0])
        assert self.bias is not None and layer.bias is not None
        _copy(layer.weight, take(self.weight, units))
        _copy(layer.bias, take(self.bias, units))
        return layer


def count_kept(kept: Kept, size: int, calls: int) -> Count:
    """Count a matrix of ``size`` weights of which some are stored, and the MACs of ``calls`` input vectors."""
    return Count(
        params=kept.weights,
        quantized=kept.weights,
        macs=calls * kept.weights,
        pruned=size - kept.weights,
        mask_bytes=kept.mask_bytes,
    )


def _copy(target: Tensor, source: Tensor) -> None:
    with torch.no_grad():
        target.copy_(source)
