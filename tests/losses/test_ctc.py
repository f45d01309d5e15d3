"""CTC loss against the enumeration of all frame labellings and finite differences."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from slimasr.losses.ctc import ctc_loss

UNITS = 3


def random_logits(batch_size: int, num_frames: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (batch_size, num_frames, UNITS)
    return (2.0 * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_()


def enumerated_loss(logits: Tensor, labels: list[int], blank: int) -> Tensor:
    """Add up all labellings of the frames of (T, V) logits that collapse to ``labels``."""
    log_probs = logits.log_softmax(dim=-1)
    total = logits.new_zeros(())
    for path in itertools.product(range(UNITS), repeat=logits.shape[0]):
        if [unit for unit, _ in itertools.groupby(path) if unit != blank] == labels:
            total = total + log_probs[torch.arange(len(path)), torch.tensor(path)].sum().exp()
    return -total.log()


@pytest.mark.parametrize("blank", [0, 1])
def test_loss_and_gradient_match_the_enumeration_of_all_labellings(blank: int) -> None:
    first, second = (unit for unit in range(UNITS) if unit != blank)
    y = torch.tensor([[first, second, first], [first, first, -1], [second, 7, 7], [blank, blank, blank]])
    y_lens, x_lens = torch.tensor([3, 2, 1, 0]), torch.tensor([5, 4, 1, 3])
    logits = random_logits(4, 5)
    expected = torch.stack(
        [enumerated_loss(logits[n, : x_lens[n]], y[n, : y_lens[n]].tolist(), blank) for n in range(4)]
    )
    loss = ctc_loss(logits, x_lens, y, y_lens, blank)
    torch.testing.assert_close(loss, expected)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    (grad,) = torch.autograd.grad((weights * loss).sum(), logits)
    (expected_grad,) = torch.autograd.grad((weights * expected).sum(), logits)
    torch.testing.assert_close(grad, expected_grad)


def test_gradient_matches_finite_differences() -> None:
    x_lens, y, y_lens = torch.tensor([6, 4]), torch.tensor([[1, 2, 2], [2, 1, 0]]), torch.tensor([3, 2])
    assert torch.autograd.gradcheck(lambda logits: ctc_loss(logits, x_lens, y, y_lens), random_logits(2, 6))


def test_utterances_without_labels_only_pay_for_blanks() -> None:
    logits = random_logits(2, 4)
    loss = ctc_loss(logits, torch.tensor([4, 2]), torch.zeros(2, 0, dtype=torch.int64), torch.tensor([0, 0]))
    blank = logits.log_softmax(dim=-1)[:, :, 0]
    torch.testing.assert_close(loss, torch.stack([-blank[0].sum(), -blank[1, :2].sum()]))


def test_utterance_without_alignment_adds_nothing_and_leaves_the_others_alone() -> None:
    logits = random_logits(2, 4)
    y, y_lens = torch.tensor([[1, 1, 2], [1, 2, 0]]), torch.tensor([3, 2])  # 1 1 2 needs a blank: 4 frames
    loss = ctc_loss(logits, torch.tensor([3, 4]), y, y_lens)
    alone = ctc_loss(logits[1:], torch.tensor([4]), y[1:], y_lens[1:])
    assert loss[0] == 0.0
    torch.testing.assert_close(loss[1:], alone)
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    (grad_alone,) = torch.autograd.grad(alone.sum(), logits)
    assert not grad[0].any()
    torch.testing.assert_close(grad, grad_alone)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss_is_float32_under_autocast(dtype: torch.dtype) -> None:
    logits = random_logits(1, 4).detach().to(dtype).requires_grad_()
    x_lens, y, y_lens = torch.tensor([4]), torch.tensor([[1, 2]]), torch.tensor([2])
    with torch.autocast("cpu", dtype=dtype):
        loss = ctc_loss(logits, x_lens, y, y_lens)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, ctc_loss(logits.float(), x_lens, y, y_lens))
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    assert grad.dtype == dtype
    assert grad.isfinite().all()
