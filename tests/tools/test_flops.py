"""The count of floating-point operations that the benchmarks use."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

BENCH = Path(__file__).parent.parent.parent / "tools" / "bench"


@pytest.fixture
def count_flops(monkeypatch: pytest.MonkeyPatch) -> Callable:
    """The benchmarks are scripts, which import each other from their own folder."""
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    from flops import count_flops

    return count_flops


@pytest.mark.parametrize("transposed", [False, True])
def test_a_grouped_convolution_counts_as_the_sum_of_its_groups(count_flops: Callable, transposed: bool) -> None:
    groups, batch_size = 6, 3
    convolve = functional.conv_transpose1d if transposed else functional.conv1d
    x = torch.randn(batch_size, 2 * groups, 50, requires_grad=True)
    # Two channels in and two out per group, of which both layouts of the weight are (12, 2, 5).
    weight = torch.randn(2 * groups, 2, 5, requires_grad=True)
    ours = count_flops(lambda: convolve(x, weight, stride=2, groups=groups).sum().backward())
    # Without groups, torch's own counter is right.
    with FlopCounterMode(display=False) as counter:
        for part, kernel in zip(x.chunk(groups, dim=1), weight.chunk(groups), strict=True):
            convolve(part, kernel, stride=2).sum().backward()
    assert ours.products == counter.get_total_flops()
    assert ours.transforms == 0


def test_only_wanted_gradients_of_a_convolution_count(count_flops: Callable) -> None:
    x = torch.randn(2, 4, 30)
    weight = torch.randn(4, 1, 3, requires_grad=True)
    forward = count_flops(lambda: functional.conv1d(x, weight, groups=4)).products
    assert forward == 2 * 2 * 28 * 4 * 3
    both = count_flops(lambda: functional.conv1d(x, weight, groups=4).sum().backward()).products
    assert both == 2 * forward


def test_matrix_products_are_torchs(count_flops: Callable) -> None:
    a = torch.randn(5, 7, requires_grad=True)
    b = torch.randn(7, 11)
    assert count_flops(lambda: (a @ b).sum().backward()).products == 2 * (2 * 5 * 7 * 11)


def test_transforms_take_5_n_log2_n_and_real_ones_half(count_flops: Callable) -> None:
    signals = torch.randn(3, 4, 8)
    spectra = torch.randn(3, 4, 8, dtype=torch.complex64)
    whole = 3 * 4 * 5 * 8 * 3
    for call, expected in (
        (lambda: torch.fft.fft(spectra), whole),
        (lambda: torch.fft.rfft(signals), whole / 2),
        (lambda: torch.fft.irfft(spectra[..., :5], n=8), whole / 2),
        # 12 transforms of 8 numbers, then 24 of 4.
        (lambda: torch.fft.fft2(spectra), whole + 24 * 5 * 4 * 2),
    ):
        counted = count_flops(call)
        assert (counted.products, counted.transforms) == (0, expected)
