"""Dropout whose masks cost little on a CPU.

There, torch draws every entry of a mask by a generator of the Bernoulli distribution, which takes a sixth of a training
step. Here, entries are 16-bit words of raw random numbers that are compared with a threshold.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Number of values of a word, and the smallest of them.
VALUES = 2**16
LOWEST = -(2**15)


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, computed by `drop`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the input with dropped entries in training mode, and the input itself otherwise."""
        return drop(input, self.p, self.training)


def drop(x: Tensor, p: float, training: bool) -> Tensor:
    """Set entries to 0 with probability ``p`` and divide the others by the probability to be kept.

    On a CPU, ``p`` is rounded to a multiple of 2^-16, and the division is by what then applies, so that the mean is
    preserved exactly. Masks come from torch's global generator. On other devices, and in compiled or exported graphs,
    this is torch's own dropout.
    """
    if not training:
        # A chunk of a stream is small enough for the calls of torch's own to be noticed.
        return x
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, p)
    dropped = round(p * VALUES)
    # torch's own also covers probabilities of 0 and 1, for which there is nothing to draw.
    if dropped in (0, VALUES):
        return F.dropout(x, p)
    kept = kept_entries(x.shape, dropped)
    return cast(Tensor, _Masked.apply(x, kept, VALUES / (VALUES - dropped)))


def kept_entries(shape: torch.Size, dropped: int) -> Tensor:
    """Draw an int8 mask, 0 where one of the ``dropped`` lowest of 2^16 equally likely values was drawn, otherwise 1."""
    number = shape.numel()
    # Numbers of 64 random bits have four words each; the generator takes as long for one as for a smaller number.
    drawn = torch.empty((number + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    words = drawn.view(torch.int16)[:number]
    # In place, because this comparison is vectorised, unlike one whose result is bool.
    return words.ge_(LOWEST + dropped).to(torch.int8).view(shape)


class _Masked(torch.autograd.Function):
    """``x * kept * scale``. It saves one byte per entry for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return _masked(x, kept, scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        # The function itself, because a backward pass may be differentiated again.
        return cast(Tensor, _Masked.apply(grads[0], kept, ctx.scale)), None, None


def _masked(x: Tensor, kept: Tensor, scale: float) -> Tensor:
    # Operations on mixed types would not be vectorised. The sum with 0 applies mask and scale in one operation, whose
    # result may replace the converted mask.
    factors = kept.to(x.dtype)
    return torch.addcmul(x.new_zeros(()), x, factors, value=scale, out=factors)
