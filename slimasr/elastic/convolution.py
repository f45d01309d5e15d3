"""Convolutions of every channel with its own filters, as long as the signal, forwards and backwards in time."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from slimasr.elastic.fft import fast_length

Convolution = Literal["fft", "real", "blocked"]
"""Products of spectra, direct sums, or blocks that hand on the state of the systems (`slimasr.elastic.blocked`)."""

NUMBERS_AT_ONCE = 1 << 17
"""Complex numbers in the products of spectra that are computed at a time; more would not fit into the cache."""


def convolve(u: Tensor, kernels: Sequence[Tensor], kind: Convolution) -> Tensor:
    """Convolve every channel with its own kernels: the first one forwards in time, a second one backwards.

    Args:
        u: (N, T, C), zero on padding; a system at rest stays at rest, so right padding has no effect.
        kernels: (C, T) for ``y_t = sum_l K_l u_{t-l}``, and optionally another for ``y_t = sum_l K_l u_{t+l}``.
        kind: ``fft``, or ``real`` for direct sums; blocks are not made of kernels.

    Returns:
        (N, T, C) per kernel, concatenated, in the dtype of ``u``; computed in that of the kernels.
    """
    assert kind != "blocked"
    if u.shape[1] == 0:
        # No FFT has length 0.
        return torch.cat([u] * len(kernels), dim=-1)
    with torch.autocast(u.device.type, enabled=False):
        signal = u.to(kernels[0].dtype)
        if kind == "real":
            out = _convolve_real(signal.transpose(1, 2), kernels).transpose(1, 2)
        else:
            out = cast(Tensor, _FftConvolution.apply(signal, *kernels))
        return out.to(u.dtype)


class _FftConvolution(torch.autograd.Function):
    """Products of spectra, (N, T, C) -> (N, T, C) per kernel, concatenated.

    With U, K, and G the spectra of the input, of a kernel, and of the gradient of the kernel's output, the spectra of
    the gradients are conj(K) G for the input and conj(U) G for the kernel. U and K are kept from the forward pass, so
    the backward pass needs one transform per incoming or outgoing gradient, each between real and complex numbers. The
    backward pass that autograd derives has more transforms, some of them between complex numbers, which take longer.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, *kernels: Tensor) -> Tensor:
        frames = u.shape[1]
        length = _fft_length(frames)
        # (D, C, F) for D directions. Reversing a real kernel in time conjugates its spectrum, so one transform of the
        # input serves both directions.
        filters = torch.fft.rfft(torch.stack(kernels), n=length)
        filters[1:].conj_physical_()
        out = u.new_empty(len(u), frames, len(kernels) * u.shape[2])
        rows = _rows_at_once(filters)
        spectra = []
        for part, part_out in zip(u.split(rows), out.split(rows), strict=True):
            spectrum = torch.fft.rfft(part.transpose(1, 2), n=length)
            # What wraps around, of either direction, lies beyond the first T frames, because the length is at least 2T.
            convolved = torch.fft.irfft(spectrum.unsqueeze(1) * filters, n=length)[..., :frames]
            # This copy brings the channels last, as the next layer needs them: on the transform's own order, GELU and
            # its gradient take several times as long, and would keep a tensor of twice the size.
            part_out.copy_(convolved.flatten(1, 2).transpose(1, 2))
            if any(ctx.needs_input_grad):
                spectra.append(spectrum.conj_physical_())
        ctx.save_for_backward(filters, *spectra)
        ctx.frames = frames
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        filters, *spectra = ctx.saved_tensors
        length = _fft_length(ctx.frames)
        conjugate = torch.conj_physical(filters)
        of_kernels = torch.zeros_like(filters)
        of_u = grad.new_empty(len(grad), ctx.frames, filters.shape[1])
        rows = _rows_at_once(filters)
        for spectrum, part, part_of_u in zip(spectra, grad.split(rows), of_u.split(rows), strict=True):
            # (N, D, C, F)
            arrived = torch.fft.rfft(part.transpose(1, 2), n=length).unflatten(1, filters.shape[:2])
            product = arrived[:, 0] * conjugate[0]
            for direction in range(1, len(filters)):
                product.addcmul_(arrived[:, direction], conjugate[direction])
            part_of_u.copy_(torch.fft.irfft(product, n=length)[..., : ctx.frames].transpose(1, 2))
            _add_products(of_kernels, spectrum, arrived)
        # As in the forward pass, the second kernel's spectrum is a conjugate.
        of_kernels[1:].conj_physical_()
        return of_u, *torch.fft.irfft(of_kernels, n=length)[..., : ctx.frames].unbind()


def _rows_at_once(filters: Tensor) -> int:
    """Return the number of utterances whose products with the (D, C, F) filters fit into the cache."""
    # Other devices run a whole batch at once.
    at_once = NUMBERS_AT_ONCE if filters.device.type == "cpu" else sys.maxsize
    return max(1, at_once // filters.numel())


def _add_products(total: Tensor, spectra: Tensor, gradients: Tensor) -> None:
    """Add the products of (N, C, F) and (N, D, C, F) spectra, summed over N, to a (D, C, F) total."""
    if total.device.type != "cpu":
        total += (spectra.unsqueeze(1) * gradients).sum(0)
        return
    # One utterance after the other, which stays in the cache, unlike a product for all of them
    for spectrum, gradient in zip(spectra, gradients, strict=True):
        total.addcmul_(spectrum, gradient)


def _convolve_real(u: Tensor, kernels: Sequence[Tensor]) -> Tensor:
    """(N, C, T) -> (N, C, T) per kernel, as depthwise convolutions with filters as long as the utterance."""
    channels = u.shape[1]
    reach = u.shape[2] - 1
    outputs = []
    for index, kernel in enumerate(kernels):
        runs_backwards = index == 1
        # `conv1d` correlates, which is the backward direction as it stands; the forward one needs the kernel reversed
        # and the past, instead of the future, padded.
        if runs_backwards:
            padded = F.pad(u, (0, reach))
            taps = kernel
        else:
            padded = F.pad(u, (reach, 0))
            taps = kernel.flip(-1)
        outputs.append(F.conv1d(padded, taps.unsqueeze(1), groups=channels))
    return torch.cat(outputs, dim=1)


def convolution_macs(channels: int, directions: int, frames: int, kind: Convolution) -> int:
    """Count the MACs of `convolve` on one utterance.

    A real FFT of length n counts as 2.5 n log2 n operations, half of them multiplications. Every direction adds a
    transform of its kernel, an inverse one, and n / 2 + 1 complex products. The length is
    counted as the smallest even number of at least 2T with small prime factors, although `convolve` may use a longer
    one. Direct sums take T products per output.
    """
    if kind == "real" or frames == 0:
        return channels * directions * frames * frames
    length = 2 * fast_length(frames)
    # Half of 2.5 n log2 n, as only multiplications count; a complex product has four of them.
    transform = 1.25 * length * math.log2(length)
    return round(channels * ((1 + 2 * directions) * transform + directions * 4 * (length // 2 + 1)))


def _fft_length(frames: int) -> int:
    """Return a length of at least 2T, which avoids wrap-around, whose transforms are fast.

    A multiple of 16 fills the vector registers of a CPU: transforms of length 160 take 60 % of the time of length 150.
    """
    return 16 * fast_length(math.ceil(frames / 8))
