"""Log-probabilities of the next symbol and of blank, straight from the joiner's logits.

The logits are by far the largest tensor of transducer training. ``log_softmax`` and two gathers would keep
a second copy of them for the backward pass and make three temporary ones. Here the forward pass keeps only the
logits, and the backward pass allocates only their gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from slimasr.losses.chunks import row_chunks


def symbol_and_blank_log_probs(logits: Tensor, symbols: Tensor, termination_symbol: int) -> tuple[Tensor, Tensor]:
    """Normalise ``logits`` over their last dimension and pick two entries of each distribution.

    Args:
        logits: (..., V) scores; half precision is computed in float32, without a float32 copy of the whole.
        symbols: int64, one unit per distribution: the leading shape of ``logits``.
        termination_symbol: the blank.

    Returns:
        Log-probabilities of ``symbols`` and of the blank, each of the leading shape of ``logits``, at least
        float32.
    """
    assert symbols.shape == logits.shape[:-1], (symbols.shape, logits.shape)
    flat = logits.reshape(-1, logits.shape[-1])
    symbol, blank = _SymbolAndBlank.apply(flat, symbols.reshape(-1), termination_symbol)
    return symbol.view(symbols.shape), blank.view(symbols.shape)


class _SymbolAndBlank(torch.autograd.Function):
    """Map (M, V) logits and (M,) symbols to two (M,) log-probabilities, chunk by chunk."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, symbols: Tensor, blank: int) -> tuple[Tensor, Tensor]:
        compute_dtype = torch.promote_types(logits.dtype, torch.float32)
        # Row 0 holds the symbols', row 1 the blanks'; each chunk is written into its place.
        log_probs = logits.new_empty((2, logits.shape[0]), dtype=compute_dtype)
        for rows in row_chunks(logits):
            normalised = logits[rows].log_softmax(dim=-1, dtype=compute_dtype)
            torch.gather(normalised, 1, symbols[rows, None], out=log_probs[0, rows, None])
            log_probs[1, rows] = normalised[:, blank]
        ctx.save_for_backward(logits, symbols)
        ctx.blank = blank
        symbol, terminal = log_probs.unbind(0)
        return symbol, terminal

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, symbol_grad: Tensor, blank_grad: Tensor) -> tuple[Tensor, None, None]:
        logits, symbols = ctx.saved_tensors
        logits_grad = torch.empty_like(logits)
        # Half-precision logits need a chunk of their own, because the gradient is computed in float32.
        in_place = logits.dtype == symbol_grad.dtype
        for rows in row_chunks(logits):
            # d log p(k) / d logit(v) = [v == k] - p(v)
            if in_place:
                chunk = torch.softmax(logits[rows], dim=-1, out=logits_grad[rows])
            else:
                chunk = logits[rows].softmax(dim=-1, dtype=symbol_grad.dtype)
            of_symbol = symbol_grad[rows, None]
            of_blank = blank_grad[rows]
            chunk.mul_(-(of_symbol + of_blank[:, None]))
            # Both are added, so a symbol that is the blank (behind the last symbol) gets both.
            chunk.scatter_add_(1, symbols[rows, None], of_symbol)
            chunk[:, ctx.blank].add_(of_blank)
            if not in_place:
                logits_grad[rows] = chunk
        return logits_grad, None, None
