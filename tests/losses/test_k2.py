"""k2's six functions, on both backends, against k2's own: values, gradients and prune ranges. Then the seventh."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from slimasr.losses import transducer

k2 = pytest.importorskip("k2", reason="k2 does not import here (tools/install_k2.sh installs it)")

Y_LENS, X_LENS = [6, 0, 3, 5], [17, 8, 3, 12]
UNITS = 9
OURS = pytest.mark.parametrize("backend", ["torch", "k2"])
RNNT_TYPE = pytest.mark.parametrize("rnnt_type", ["regular", "modified", "constrained"])
BOUNDED = pytest.mark.parametrize("bounded", [True, False])


def random(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2.0 * torch.randn(*shape, generator=generator, dtype=torch.float64)).requires_grad_()


@pytest.fixture
def symbols() -> Tensor:
    return torch.randint(1, UNITS, (4, 6), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def boundary() -> Tensor:
    return torch.tensor([[0, 0, u, t] for u, t in zip(Y_LENS, X_LENS, strict=True)])


def assert_same(ours: Tensor, theirs: Tensor, inputs: Sequence[Tensor]) -> None:
    """Equal losses per utterance and equal gradients under different weights of the utterances.

    k2 computes its delay penalty in float32, even for float64 input.
    """
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    weights = torch.arange(1.0, ours.shape[0] + 1, dtype=ours.dtype)
    for grad, expected in zip(
        torch.autograd.grad((weights * ours).sum(), inputs),
        torch.autograd.grad((weights * theirs).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(grad, expected, rtol=1e-5, atol=1e-6)


@OURS
@RNNT_TYPE
@BOUNDED
def test_losses(symbols: Tensor, boundary: Tensor, backend: str, rnnt_type: str, bounded: bool) -> None:
    limits = boundary if bounded else None
    lm, am, logits = (
        random(4, 7, UNITS, seed=1),
        random(4, 17, UNITS, seed=2),
        random(4, 17, 7, UNITS, seed=3),
    )
    options = {"boundary": limits, "rnnt_type": rnnt_type, "delay_penalty": 0.2, "reduction": "none"}
    for name, args, inputs in (
        ("rnnt_loss_simple", (lm, am, symbols, 0), (lm, am)),
        ("rnnt_loss_smoothed", (lm, am, symbols, 0, 0.25, 0.1), (lm, am)),
        ("rnnt_loss", (logits, symbols, 0), (logits,)),
    ):
        ours = getattr(transducer, name)(*args, **options, backend=backend)
        assert_same(ours, getattr(k2, name)(*args, **options), inputs)


@OURS
@RNNT_TYPE
def test_pruning(symbols: Tensor, boundary: Tensor, backend: str, rnnt_type: str) -> None:
    lm, am = random(4, 7, UNITS, seed=1), random(4, 17, UNITS, seed=2)
    options = {"boundary": boundary, "rnnt_type": rnnt_type, "reduction": "none", "return_grad": True}
    _, occupation = transducer.rnnt_loss_smoothed(lm, am, symbols, 0, **options, backend=backend)
    _, expected_occupation = k2.rnnt_loss_smoothed(lm, am, symbols, 0, **options)
    for ours, theirs in zip(occupation, expected_occupation, strict=True):
        torch.testing.assert_close(ours, theirs)

    ranges = transducer.get_rnnt_prune_ranges(*expected_occupation, boundary, 3, backend=backend)
    assert torch.equal(ranges, k2.get_rnnt_prune_ranges(*expected_occupation, boundary, 3))
    pairs = zip(
        transducer.do_rnnt_pruning(am, lm, ranges, backend=backend),
        k2.do_rnnt_pruning(am, lm, ranges),
        strict=True,
    )
    (am_ours, am_theirs), (lm_ours, lm_theirs) = pairs
    assert torch.equal(am_ours, am_theirs)
    assert torch.equal(lm_ours, lm_theirs)

    args = (symbols, ranges, 0, boundary, rnnt_type, 0.2, "none")
    ours = transducer.rnnt_loss_pruned(torch.tanh(am_ours + lm_ours), *args, backend=backend)
    assert_same(ours, k2.rnnt_loss_pruned(torch.tanh(am_theirs + lm_theirs), *args), (lm, am))


@OURS
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_reductions(symbols: Tensor, boundary: Tensor, backend: str, reduction: str) -> None:
    logits = random(4, 17, 7, UNITS, seed=3)
    ours = transducer.rnnt_loss(logits, symbols, 0, boundary, reduction=reduction, backend=backend)
    torch.testing.assert_close(ours, k2.rnnt_loss(logits, symbols, 0, boundary, reduction=reduction))


def test_backends_agree_on_utterances_without_alignment(symbols: Tensor) -> None:
    """k2 itself refuses such a batch; its recursion must still neither spread infinities nor gradients."""
    boundary = torch.tensor([[0, 0, 6, 3], [0, 0, 2, 8]])
    logits = random(2, 8, 7, UNITS, seed=3)
    losses = [
        transducer.rnnt_loss(logits, symbols[:2], 0, boundary, "modified", reduction="none", backend=backend)
        for backend in ("torch", "k2")
    ]
    assert losses[0][0] == torch.inf
    assert_same(losses[0], losses[1], (logits,))


@RNNT_TYPE
def test_backends_agree_on_the_restricted_loss(symbols: Tensor, boundary: Tensor, rnnt_type: str) -> None:
    """The last utterance has no alignment. Full buffers are k2's own loss on the full lattice."""
    ends = torch.tensor([[1, 4, 7, 9, 12, 15], [-1] * 6, [0, 1, 2, -1, -1, -1], [-1] * 6])
    logits = random(4, 17, 7, UNITS, seed=3)

    def restricted(backend: str, left: int, right: int) -> Tensor:
        windows = transducer.emission_windows(ends, boundary, left, right, rnnt_type)
        assert windows.unrestricted.tolist() == [False, False, False, True]
        ranges = transducer.restricted_ranges(windows, 17)
        kept = logits.gather(2, ranges.unsqueeze(3).expand(-1, -1, -1, UNITS))
        args = (kept, symbols, ranges, windows, 0, boundary, rnnt_type, 0.2, "none")
        return transducer.rnnt_loss_restricted(*args, backend=backend)

    assert_same(restricted("torch", 1, 2), restricted("k2", 1, 2), (logits,))
    full = k2.rnnt_loss(logits, symbols, 0, boundary, rnnt_type, 0.2, "none")
    assert_same(restricted("k2", 17, 17), full, (logits,))
