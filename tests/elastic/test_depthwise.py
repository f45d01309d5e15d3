"""The depthwise convolution equals torch's one-dimensional operator, with its derivatives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slimasr.elastic.depthwise import depthwise


def tensors(n: int, frames: int, channels: int, taps: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n + frames + channels + taps)
    shapes = [(n, frames, channels), (channels, 1, taps), (channels,)]
    return [torch.randn(shape, generator=generator, dtype=dtype, requires_grad=True) for shape in shapes]


def one_dimensional(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    padding = weight.shape[2] // 2
    return F.conv1d(x.transpose(1, 2), weight, bias, padding=padding, groups=weight.shape[0]).transpose(1, 2)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("n", "frames", "channels", "taps"), [(2, 9, 6, 5), (3, 40, 16, 15), (1, 2, 4, 7), (2, 5, 1, 1), (1, 3, 3, 3)]
)
def test_output_and_gradients_are_those_of_torch(
    n: int, frames: int, channels: int, taps: int, transposed: bool
) -> None:
    """In float32 against float64, also for inputs and gradients that are not contiguous."""
    ours = tensors(n, frames, channels, taps, torch.float32)
    theirs = [tensor.detach().double().requires_grad_() for tensor in ours]
    upstream = torch.randn(n, frames, channels, dtype=torch.float64)
    x = ours[0].transpose(0, 1).contiguous().transpose(0, 1) if transposed else ours[0]
    out, want = depthwise(x, *ours[1:]), one_dimensional(*theirs)
    torch.testing.assert_close(out.double(), want, rtol=1e-5, atol=1e-5)
    out.transpose(1, 2).backward(upstream.float().transpose(1, 2))
    want.backward(upstream)
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine.grad is not None and reference.grad is not None
        torch.testing.assert_close(mine.grad.double(), reference.grad, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(depthwise(x, *ours[1:]), out.detach())


def test_derivatives_agree_with_finite_differences() -> None:
    arguments = tensors(2, 5, 3, 3, torch.float64)
    assert torch.autograd.gradcheck(depthwise, arguments)
    assert torch.autograd.gradgradcheck(depthwise, arguments)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_a_frozen_argument_gets_no_gradient(frozen: int) -> None:
    arguments, others = (tensors(2, 8, 4, 3, torch.float64) for _ in range(2))
    for function, group in ((depthwise, arguments), (one_dimensional, others)):
        group[frozen].requires_grad_(False)
        function(*group).square().sum().backward()
    assert arguments[frozen].grad is None
    for mine, reference in zip(arguments, others, strict=True):
        if mine.requires_grad:
            torch.testing.assert_close(mine.grad, reference.grad)


def test_autocast_computes_in_bfloat16() -> None:
    arguments = tensors(2, 8, 4, 3, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = depthwise(*arguments)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), one_dimensional(*arguments), rtol=0.05, atol=0.05)
    out.sum().backward()
    assert all(tensor.grad is not None and tensor.grad.dtype == torch.float32 for tensor in arguments)
