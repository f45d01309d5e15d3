"""Attention scores: reordered from distances to keys, and masked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from slimasr.elastic.attention import by_key, mask_keys


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


def test_masked_keys_have_no_weight_and_no_gradient() -> None:
    """Weights and gradients are those of the keys that are left, alone; an infinite score is masked as well."""
    scores = torch.randn(3, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    padding = torch.tensor([[False] * 4, [False, False, True, True], [False, True, True, True]])
    special = torch.zeros(3, 2, 4, 4, dtype=torch.float64)
    special[1, :, :, 3] = float("inf")
    upstream = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    weights = mask_keys(scores + special, padding).softmax(dim=-1)
    weights.backward(upstream)
    assert scores.grad is not None
    for row, length in enumerate([4, 2, 1]):
        left = scores.detach()[row, ..., :length].clone().requires_grad_()
        want = left.softmax(dim=-1)
        want.backward(upstream[row, ..., :length])
        assert left.grad is not None
        torch.testing.assert_close(weights[row, ..., :length], want)
        torch.testing.assert_close(scores.grad[row, ..., :length], left.grad)
        assert (weights[row, ..., length:] == 0).all() and (scores.grad[row, ..., length:] == 0).all()
