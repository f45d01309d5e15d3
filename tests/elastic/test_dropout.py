"""Dropout: which entries are kept, and what happens to them and to their gradients."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slimasr.elastic.dropout import Dropout, drop

LARGE = (100, 101, 99)


def masks(p: float, shape: tuple[int, ...] = LARGE, seed: int = 0) -> Tensor:
    """True where an entry is kept."""
    torch.manual_seed(seed)
    return drop(torch.ones(shape), p, True) != 0


def near(share: Tensor, expected: float, number: int) -> bool:
    """Whether a share of ``number`` independent draws is within five standard deviations."""
    return abs(share.item() - expected) < 5 * math.sqrt(expected * (1 - expected) / number)


@pytest.mark.parametrize("p", [0.001, 0.025, 0.1, 0.5, 0.97])
def test_share_of_kept_entries(p: float) -> None:
    """In the whole, and at each place of the four words of a drawn number."""
    kept = masks(p).double().flatten()
    assert near(kept.mean(), 1 - p, kept.numel())
    for place in range(4):
        assert near(kept[place::4].mean(), 1 - p, kept[place::4].numel())


def test_entries_are_independent() -> None:
    """Of their neighbours at any distance up to 8, and of the same place in the next call."""
    p = 0.3
    torch.manual_seed(0)
    first, second = (drop(torch.ones(LARGE), p, True).flatten() != 0 for _ in range(2))
    for distance in range(1, 9):
        both = (first[distance:] & first[:-distance]).double()
        assert near(both.mean(), (1 - p) ** 2, both.numel()), distance
    assert near((first & second).double().mean(), (1 - p) ** 2, first.numel())


@pytest.mark.parametrize("p", [0.1, 0.1 / 3, 0.7])
def test_the_mean_is_preserved(p: float) -> None:
    """The scale is the inverse of the probability that applies, which is that of torch to 2^-17."""
    torch.manual_seed(0)
    values = drop(torch.ones(LARGE, dtype=torch.float64), p, True)
    scale = values.max()
    assert set(values.unique().tolist()) == {0.0, scale.item()}
    # A kept word is one of a whole number of the 2^16.
    assert (2**16 / scale).item() == pytest.approx(round(2**16 / scale.item()), abs=1e-6)
    assert abs(1 / scale.item() - (1 - p)) <= 2**-17
    assert abs(values.mean().item() - 1) < 5 * math.sqrt(p / (1 - p) / values.numel())


@pytest.mark.parametrize("shape", [(3, 5), (2, 7, 1), (1,), (0, 4)])
def test_values_and_gradients_are_those_of_a_product_with_the_mask(shape: tuple[int, ...]) -> None:
    p = 0.25
    mask = masks(p, shape, seed=3)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    copy = x.detach().clone().requires_grad_()
    upstream = torch.randn(shape, dtype=torch.float64)
    torch.manual_seed(3)
    ours, theirs = drop(x, p, True), copy * mask / (1 - p)
    torch.testing.assert_close(ours, theirs)
    ours.backward(upstream)
    theirs.backward(upstream)
    torch.testing.assert_close(x.grad, copy.grad)


def test_first_and_second_derivatives_agree_with_finite_differences() -> None:
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)

    def fixed(x: Tensor) -> Tensor:
        torch.manual_seed(1)
        return drop(x, 0.4, True)

    assert torch.autograd.gradcheck(fixed, x)
    assert torch.autograd.gradgradcheck(fixed, x)


def test_masks_follow_from_the_seed() -> None:
    assert torch.equal(masks(0.2), masks(0.2))
    assert not torch.equal(masks(0.2), masks(0.2, seed=1))
    # The state of the global generator is all that matters, and every call moves it on.
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = (drop(torch.ones(64), 0.5, True) for _ in range(2))
    torch.set_rng_state(state)
    assert torch.equal(first, drop(torch.ones(64), 0.5, True)) and not torch.equal(first, second)


def test_a_transposed_input_keeps_its_entries() -> None:
    x = torch.randn(6, 8).t()
    torch.manual_seed(2)
    got = drop(x, 0.5, True)
    torch.manual_seed(2)
    torch.testing.assert_close(got, drop(x.contiguous(), 0.5, True))


@pytest.mark.parametrize("p", [0.0, 1.0, 1e-7, 1 - 1e-7])
def test_probabilities_of_zero_and_one_are_those_of_torch(p: float) -> None:
    x = torch.randn(50, requires_grad=True)
    out = Dropout(p)(x)
    torch.testing.assert_close(out, x if p < 0.5 else torch.zeros(50), rtol=1e-6, atol=0.0)
    out.sum().backward()
    torch.testing.assert_close(x.grad, torch.full((50,), float(p < 0.5)), rtol=1e-6, atol=0.0)


def test_without_training_it_is_the_identity() -> None:
    """And draws nothing."""
    x = torch.randn(5, 4)
    before = torch.get_rng_state()
    assert Dropout(0.5).eval()(x) is x and drop(x, 0.5, False) is x
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_also_under_autocast(dtype: torch.dtype) -> None:
    """The type stays; values are those of float32, rounded once."""
    x = torch.randn(200, 30).to(dtype)
    torch.manual_seed(4)
    want = drop(x.float(), 0.1, True).to(dtype)
    for enabled in (False, True):
        torch.manual_seed(4)
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype, enabled=enabled):
            got = drop(leaf, 0.1, True)
        assert got.dtype == dtype
        torch.testing.assert_close(got.detach(), want, rtol=torch.finfo(dtype).eps, atol=0.0)
        got.sum().backward()
        assert leaf.grad is not None and leaf.grad.dtype == dtype
        assert torch.equal(leaf.grad != 0, want != 0)


def test_exported_graphs_hold_the_operator_of_torch() -> None:
    """An exporter cannot follow random words."""
    program = torch.export.export(Dropout(0.5).train(), (torch.randn(3, 4),), strict=False)
    assert torch.ops.aten.dropout.default in [node.target for node in program.graph.nodes]
    x = torch.randn(3, 4)
    torch.manual_seed(0)
    got = program.module()(x)
    torch.manual_seed(0)
    torch.testing.assert_close(got, F.dropout(x, 0.5))
