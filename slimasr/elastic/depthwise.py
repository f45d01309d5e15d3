"""Depthwise convolution over time, with the layouts that a CPU computes fastest."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight


def depthwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve every channel over time with its own filter: (N, T, C), (C, 1, K), (C,) -> (N, T, C), with K odd.

    This is computed as a convolution of images with a height or width of 1, because the input already has their
    channels-last layout. On a CPU the one-dimensional operator takes up to 50 times as long.
    """
    # Under autocast, and in compiled or exported graphs, types and layouts are up to torch.
    plain = x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
    # With fewer frames than taps, torch's own gradients are the fastest.
    if plain or x.shape[1] < weight.shape[2] or not (torch.is_grad_enabled() and weight.requires_grad):
        return _convolve(x, weight, bias)
    return cast(Tensor, _Depthwise.apply(x, weight, bias))


def causal(x: Tensor, weight: Tensor, bias: Tensor | None, step: int = 1) -> Tensor:
    """Convolve a frame and the K - 1 before it: (N, K - 1 + T, C), (C, 1, K), (C,) -> (N, T', C), any K.

    Args:
        x: K - 1 frames of the past, then T frames.
        step: distance of the output frames, of which the first is that of the first of the T frames.
    """
    # Without any frame the operator fails. Exported graphs would keep the comparison as a condition on their input.
    if not torch.compiler.is_compiling() and x.shape[1] < weight.shape[2]:
        return x[:, :0]
    out = F.conv2d(_as_row(x), weight.unsqueeze(2), bias, stride=(1, step), groups=weight.shape[0])
    return out.squeeze(2).transpose(1, 2)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    padding = (0, weight.shape[2] // 2)
    out = F.conv2d(_as_row(x), weight.unsqueeze(2), bias, padding=padding, groups=weight.shape[0])
    return out.squeeze(2).transpose(1, 2)


def _as_row(x: Tensor) -> Tensor:
    """(N, T, C) -> (N, C, 1, T), a view whose channels are contiguous: the memory format that the operator prefers."""
    return x.unsqueeze(1).permute(0, 3, 1, 2)


def _as_column(x: Tensor) -> Tensor:
    """(N, T, C) -> (N, C, T, 1), a view whose channels are contiguous.

    The last dimension gets the stride C of this memory format. With any other stride, although it has a single entry,
    the operator copies its input first.
    """
    return x.unsqueeze(2).permute(0, 3, 1, 2)


class _Depthwise(torch.autograd.Function):
    """The convolution, with time as the width of the image except for the gradient of the filters.

    The gradient of the filters takes most of the time. With time as the height of the image it takes a fraction of
    that, while the other operations would become slower. The gradient of the bias is a separate sum, which is faster
    than computing it in the same operator.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        (grad,) = grads
        channels, _, taps = weight.shape
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            # Of an odd number of taps, the transposed convolution is one with the taps in reverse order.
            grad_x = _convolve(grad, weight.flip(2), None)
        if ctx.needs_input_grad[1]:
            size = (channels, 1, taps, 1)
            padding = (taps // 2, 0)
            filters = conv2d_weight(_as_column(x), size, _as_column(grad), padding=padding, groups=channels)
            grad_weight = filters.squeeze(3)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum(dim=(0, 1))
        return grad_x, grad_weight, grad_bias
