"""Floating-point numbers too small for full precision, which cost a processor a hundred times as long as others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Let the processor treat such numbers (below 1.2e-38 in float32) as 0 within the block, where it can do so.

    Gradients at nodes of a lattice far from the likely paths are that small, the more so the better a model is. No
    result changes that float32 can show. The mode is that of this thread and of those that it starts, so the block
    should begin before the first parallel computation. Outside of such blocks it is off, as PyTorch has it.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
