"""Numbers too small for full precision, which training treats as 0."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from slimasr.losses.transducer import rnnt_loss
from slimasr.training import trainer
from slimasr.training.denormals import denormals_flushed
from slimasr.training.distributed import World
from tests.training.kit import tiny_config

SMALLEST = torch.finfo(torch.float32).tiny
"""The smallest number of full precision."""


def product() -> float:
    """A number too small for full precision, computed with vectors as a matrix is."""
    return float((torch.full((64,), 1e-30) * 1e-10)[0])


def gradient(logits: Tensor, symbols: Tensor) -> Tensor:
    """That of the transducer loss by the scores."""
    leaf = logits.clone().requires_grad_()
    rnnt_loss(leaf, symbols, 0, None, backend="torch").sum().backward()
    assert leaf.grad is not None
    return leaf.grad


@pytest.fixture(autouse=True)
def the_processor_can() -> None:
    supported = torch.set_flush_denormal(True)
    torch.set_flush_denormal(False)
    if not supported:
        pytest.skip("this processor has no such mode")


def test_the_mode_is_that_of_the_block() -> None:
    assert product() != 0.0
    with denormals_flushed():
        assert product() == 0.0
    assert product() != 0.0


def test_gradients_of_a_lattice_keep_their_values() -> None:
    """A lattice with a likely path, whose other nodes have gradients of any size."""
    torch.manual_seed(0)
    logits, symbols = 8.0 * torch.randn(2, 40, 11, 12), torch.randint(1, 12, (2, 10))
    exact = gradient(logits, symbols)
    with denormals_flushed():
        flushed = gradient(logits, symbols)
    small = (exact != 0.0) & (exact.abs() < SMALLEST)
    # A node's gradient is a difference of two numbers, either of which may have become 0.
    assert small.any() and not flushed[small].any()
    torch.testing.assert_close(flushed, exact, atol=4 * SMALLEST, rtol=1e-6)


class Stop(Exception):
    """Ends a run before it has begun."""


def test_a_run_has_the_mode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []

    @contextmanager
    def stopped() -> Iterator[World]:
        seen.append(product())
        raise Stop
        yield World()

    monkeypatch.setattr(trainer, "process_group", stopped)
    with pytest.raises(Stop):
        trainer.train(tiny_config(), tmp_path / "data", tmp_path / "exp")
    assert seen == [0.0] and product() != 0.0
