"""Relative positions: scores by distance, reordered by key."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from slimasr.elastic.attention import by_key


def enumerated(scores: Tensor) -> Tensor:
    """Distance d of T ... -(T - 1) is in column T - d."""
    frames = scores.shape[2]
    rows = [[scores[:, :, i, frames - (i - j)] for j in range(frames)] for i in range(frames)]
    return torch.stack([torch.stack(row, dim=2) for row in rows], dim=2)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_values_and_gradients_are_those_of_single_entries(frames: int) -> None:
    scores = torch.randn(2, 3, frames, 2 * frames, requires_grad=True)
    copy = scores.detach().clone().requires_grad_()
    upstream = torch.randn(2, 3, frames, frames)
    got, want = by_key(scores), enumerated(copy)
    assert torch.equal(got, want)
    with torch.no_grad():
        assert torch.equal(by_key(scores), want)
    got.backward(upstream)
    want.backward(upstream)
    assert scores.grad is not None and copy.grad is not None and torch.equal(scores.grad, copy.grad)


def test_derivatives_agree_with_finite_differences() -> None:
    scores = torch.randn(1, 2, 3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(by_key, scores)
    assert torch.autograd.gradgradcheck(by_key, scores)
