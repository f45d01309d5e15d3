"""From network outputs to arc scores in nats: ``px`` (B, S, T) of symbols, ``py`` (B, S + 1, T) of blanks.

Four ways to get them (simple, smoothed, full joiner, pruned joiner) and one function that gives them a
topology. B utterances, S symbols, T frames, C output units with the termination symbol (blank) among them.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from slimasr.losses.transducer.joint import symbol_and_blank_log_probs

RnntType = Literal["regular", "modified", "constrained"]
ArcScores = tuple[Tensor, Tensor]

_INFINITY = float("inf")


def simple_log_probs(lm: Tensor, am: Tensor, symbols: Tensor, termination_symbol: int) -> ArcScores:
    """Arc scores when the joiner is mere addition, without the (B, T, S + 1, C) tensor of ``lm[s] + am[t]``.

    Args:
        lm: (B, S + 1, C) predictor part of the logits.
        am: (B, T, C) encoder part of the logits.
        symbols: (B, S) int64.
        termination_symbol: the blank.

    Source: section 3.1 of Kuang et al. 2022, "Pruned RNN-T for fast, memory-efficient ASR training".
    """
    _check_simple_shapes(lm, am, symbols)
    lm_exp, lm_max = _scaled_exp(lm)
    am_exp, am_max = _scaled_exp(am)
    normaliser = _log(lm_exp @ am_exp.transpose(1, 2)) + lm_max + am_max.transpose(1, 2)  # (B, S + 1, T)
    symbol_am, symbol_lm = _symbol_columns(lm, am, symbols)
    px = symbol_am + symbol_lm - normaliser[:, :-1]
    py = am[:, None, :, termination_symbol] + lm[:, :, termination_symbol, None] - normaliser
    return px, py


def smoothed_log_probs(
    lm: Tensor,
    am: Tensor,
    symbols: Tensor,
    termination_symbol: int,
    lm_only_scale: float,
    am_only_scale: float,
) -> ArcScores:
    """Simple arc scores, interpolated (log domain) with those of the predictor and of the encoder alone.

    The encoder-only distribution is weighted by a unigram: the mean of the predictor's distributions over
    all positions of the batch, padding included. Shapes as in `simple_log_probs`.

    Source: section 3.1.1 of Kuang et al. 2022.
    """
    px, py = simple_log_probs(lm, am, symbols, termination_symbol)
    batch_size, num_symbols = symbols.shape
    lm_log_probs = lm.log_softmax(dim=-1)  # (B, S + 1, C)
    px_lm = lm_log_probs[:, :-1].gather(2, symbols.unsqueeze(2))  # (B, S, 1)
    py_lm = lm_log_probs[:, :, termination_symbol, None]  # (B, S + 1, 1)

    unigram = lm_log_probs.exp().mean(dim=(0, 1)) + torch.finfo(lm.dtype).tiny  # (C,)
    am_exp, am_max = _scaled_exp(am)
    am_normaliser = (_log(am_exp @ unigram).unsqueeze(2) + am_max).transpose(1, 2)  # (B, 1, T)
    log_unigram = unigram.log()
    symbol_am, _ = _symbol_columns(lm, am, symbols)
    px_am = symbol_am + log_unigram[symbols].view(batch_size, num_symbols, 1) - am_normaliser
    py_am = am[:, None, :, termination_symbol] + log_unigram[termination_symbol] - am_normaliser  # (B, 1, T)

    combined_scale = 1.0 - lm_only_scale - am_only_scale
    px = combined_scale * px + lm_only_scale * px_lm + am_only_scale * px_am
    py = combined_scale * py + lm_only_scale * py_lm + am_only_scale * py_am
    return px, py


def joint_log_probs(logits: Tensor, symbols: Tensor, termination_symbol: int) -> ArcScores:
    """Arc scores from the joiner's output on the full lattice.

    Args:
        logits: (B, T, S + 1, C).
        symbols: (B, S) int64.
        termination_symbol: the blank.
    """
    assert logits.ndim == 4, logits.shape
    batch_size, num_frames, num_rows, _ = logits.shape
    assert symbols.shape == (batch_size, num_rows - 1), (logits.shape, symbols.shape)
    next_symbol = functional.pad(symbols, (0, 1), value=termination_symbol)  # nothing follows the last symbol
    next_symbol = next_symbol.unsqueeze(1).expand(batch_size, num_frames, num_rows)
    symbol, blank = symbol_and_blank_log_probs(logits, next_symbol, termination_symbol)
    return symbol[:, :, :-1].transpose(1, 2), blank.transpose(1, 2)


def pruned_log_probs(logits: Tensor, symbols: Tensor, ranges: Tensor, termination_symbol: int) -> ArcScores:
    """Arc scores from the joiner's output on R positions of each frame; all other arcs get -inf.

    Args:
        logits: (B, T, R, C).
        symbols: (B, S) int64.
        ranges: (B, T, R) int64, the positions in 0..S that were kept.
        termination_symbol: the blank.
    """
    assert logits.ndim == 4, logits.shape
    batch_size, num_frames, _ = ranges.shape
    num_rows = symbols.shape[1] + 1
    assert logits.shape[:3] == ranges.shape, (logits.shape, ranges.shape)
    assert symbols.shape[0] == batch_size, (symbols.shape, ranges.shape)
    next_symbol = functional.pad(symbols, (0, 1), value=termination_symbol)
    kept_symbol = next_symbol.unsqueeze(1).expand(batch_size, num_frames, num_rows).gather(2, ranges)
    symbol, blank = symbol_and_blank_log_probs(logits, kept_symbol, termination_symbol)
    pruned_away = symbol.new_full((batch_size, num_frames, num_rows), -_INFINITY)
    px = pruned_away.scatter(2, ranges, symbol)[:, :, :-1]
    py = pruned_away.scatter(2, ranges, blank)
    return px.transpose(1, 2), py.transpose(1, 2)


def with_topology(
    px: Tensor, py: Tensor, boundary: Tensor | None, rnnt_type: RnntType, delay_penalty: float
) -> ArcScores:
    """Turn log-probabilities into the arc scores of a lattice type, and favour early symbols if asked to.

    Args:
        px: (B, S, T) log-probabilities of symbols.
        py: (B, S + 1, T) log-probabilities of blanks.
        boundary: (B, 4) or None, see `slimasr.losses.transducer`.
        rnnt_type: ``regular``: a symbol stays on its frame, and none is emitted behind the last frame
            (column T of the returned px is -inf); ``modified``: a symbol takes a frame; ``constrained``: as
            modified, and it also pays for a blank in the context it leads to, on its own frame.
        delay_penalty: each symbol at frame t gains ``delay_penalty * ((T_b - 1) / 2 - t)`` nats (Kang et
            al. 2023).

    Returns:
        px of (B, S, T + 1) if regular, else (B, S, T), and py.

    Raises:
        ValueError: unknown ``rnnt_type``.
    """
    num_frames = py.shape[2]
    frame = torch.arange(num_frames, device=px.device, dtype=px.dtype)
    if boundary is None:
        t_end = frame.new_full((1, 1, 1), num_frames)
    else:
        t_end = boundary[:, 3].reshape(-1, 1, 1).to(frame)
    if rnnt_type == "constrained":
        px = px + py[:, 1:]
    elif rnnt_type not in ("regular", "modified"):
        raise ValueError(f"rnnt_type must be regular, modified or constrained, not {rnnt_type!r}")
    if delay_penalty > 0.0:
        px = px + delay_penalty * ((t_end - 1) / 2 - frame)
    if rnnt_type == "regular":
        px = functional.pad(px.masked_fill(frame == t_end, -_INFINITY), (0, 1), value=-_INFINITY)
    return px, py


def _check_simple_shapes(lm: Tensor, am: Tensor, symbols: Tensor) -> None:
    assert lm.ndim == am.ndim == 3, (lm.shape, am.shape)
    assert lm.shape[::2] == am.shape[::2], (lm.shape, am.shape)
    assert symbols.shape == (lm.shape[0], lm.shape[1] - 1), (symbols.shape, lm.shape)


def _scaled_exp(logits: Tensor) -> tuple[Tensor, Tensor]:
    """``exp(logits - max)`` and the maximum over units: no gradient, it cancels out of the normalisers."""
    maximum = logits.detach().amax(dim=2, keepdim=True)
    return (logits - maximum).exp(), maximum


def _log(total: Tensor) -> Tensor:
    """Logarithm of a sum of exponentials that may have underflown to 0."""
    return (total + torch.finfo(total.dtype).tiny).log()


def _symbol_columns(lm: Tensor, am: Tensor, symbols: Tensor) -> ArcScores:
    """Logits of each position's next symbol: (B, S, T) from ``am`` and (B, S, 1) from ``lm``."""
    symbol_am = am.transpose(1, 2).gather(1, symbols.unsqueeze(2).expand(*symbols.shape, am.shape[1]))
    symbol_lm = lm[:, :-1].gather(2, symbols.unsqueeze(2))
    return symbol_am, symbol_lm
