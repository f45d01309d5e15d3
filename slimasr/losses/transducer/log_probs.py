"""From network outputs to arc scores in nats: ``px`` (B, S, T) of symbols, ``py`` (B, S + 1, T) of blanks.

Four functions compute them (simple, smoothed, full joiner, pruned joiner), and one adapts them to a
topology. B utterances, S symbols, T frames, C output units with the termination symbol (blank) among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from slimasr.losses.transducer.joint import symbol_and_blank_log_probs

RnntType = Literal["regular", "modified", "constrained"]
ArcScores = tuple[Tensor, Tensor]

_INFINITY = float("inf")


def simple_log_probs(lm: Tensor, am: Tensor, symbols: Tensor, termination_symbol: int) -> ArcScores:
    """Compute arc scores of an additive joiner, without the (B, T, S + 1, C) tensor of ``lm[s] + am[t]``.

    Args:
        lm: (B, S + 1, C) predictor part of the logits.
        am: (B, T, C) encoder part of the logits.
        symbols: (B, S) int64.
        termination_symbol: the blank.

    Source: section 3.1 of Kuang et al. 2022, "Pruned RNN-T for fast, memory-efficient ASR training".
    """
    am_scores = _AmScores.of(am, lm, symbols, termination_symbol)
    # A constant per position cancels out in the joint softmax. Normalising makes the exponentials safe.
    lm_log_probs = lm.log_softmax(dim=-1)
    return am_scores.mixed_with(lm_log_probs.exp(), *_arcs_of(lm_log_probs, symbols, termination_symbol))


def smoothed_log_probs(
    lm: Tensor,
    am: Tensor,
    symbols: Tensor,
    termination_symbol: int,
    lm_only_scale: float,
    am_only_scale: float,
) -> ArcScores:
    """Interpolate simple arc scores (in the log domain) with those of the predictor and of the encoder alone.

    The encoder-only distribution is weighted by a unigram: the mean of the predictor's distributions over
    all positions of the batch, padding included. Shapes as in `simple_log_probs`.

    Source: section 3.1.1 of Kuang et al. 2022.
    """
    am_scores = _AmScores.of(am, lm, symbols, termination_symbol)
    lm_log_probs = lm.log_softmax(dim=-1)
    lm_probs = lm_log_probs.exp()
    px_lm, py_lm = _arcs_of(lm_log_probs, symbols, termination_symbol)
    px, py = am_scores.mixed_with(lm_probs, px_lm, py_lm)

    # (1, 1, C). The smallest positive number keeps the logarithm finite.
    unigram = lm_probs.mean(dim=(0, 1), keepdim=True) + torch.finfo(lm.dtype).tiny
    log_unigram = unigram.log().expand_as(lm)
    px_am, py_am = am_scores.mixed_with(
        unigram.expand(lm.shape[0], 1, -1), *_arcs_of(log_unigram, symbols, termination_symbol)
    )

    combined_scale = 1.0 - lm_only_scale - am_only_scale
    px = combined_scale * px + lm_only_scale * px_lm + am_only_scale * px_am
    py = combined_scale * py + lm_only_scale * py_lm + am_only_scale * py_am
    return px, py


def joint_log_probs(logits: Tensor, symbols: Tensor, termination_symbol: int) -> ArcScores:
    """Compute arc scores from the joiner's output on the full lattice.

    Args:
        logits: (B, T, S + 1, C).
        symbols: (B, S) int64.
        termination_symbol: the blank.
    """
    assert logits.ndim == 4, logits.shape
    batch_size, num_frames, num_rows, _ = logits.shape
    assert symbols.shape == (batch_size, num_rows - 1), (logits.shape, symbols.shape)
    # Nothing follows the last symbol: the blank fills its place, and the column is dropped below.
    next_symbol = functional.pad(symbols, (0, 1), value=termination_symbol)
    next_symbol = next_symbol.unsqueeze(1).expand(batch_size, num_frames, num_rows)
    symbol, blank = symbol_and_blank_log_probs(logits, next_symbol, termination_symbol)
    return symbol[:, :, :-1].transpose(1, 2), blank.transpose(1, 2)


def pruned_log_probs(logits: Tensor, symbols: Tensor, ranges: Tensor, termination_symbol: int) -> ArcScores:
    """Compute arc scores from the joiner's output on R positions of each frame; all other arcs get -inf.

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
    # (B, T, R): the symbol that follows each kept position.
    kept_symbol = next_symbol.unsqueeze(1).expand(batch_size, num_frames, num_rows).gather(2, ranges)
    symbol, blank = symbol_and_blank_log_probs(logits, kept_symbol, termination_symbol)
    pruned_away = symbol.new_full((batch_size, num_frames, num_rows), -_INFINITY)
    px = pruned_away.scatter(2, ranges, symbol)[:, :, :-1]
    py = pruned_away.scatter(2, ranges, blank)
    return px.transpose(1, 2), py.transpose(1, 2)


def check_rnnt_type(rnnt_type: str) -> None:
    """Raise ValueError if there is no such type of lattice."""
    if rnnt_type not in ("regular", "modified", "constrained"):
        raise ValueError(f"rnnt_type must be regular, modified or constrained, not {rnnt_type!r}")


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
        ValueError: ``rnnt_type`` is unknown.
    """
    check_rnnt_type(rnnt_type)
    num_frames = py.shape[2]
    frame = torch.arange(num_frames, device=px.device, dtype=px.dtype)
    if boundary is None:
        t_end = frame.new_full((1, 1, 1), num_frames)
    else:
        t_end = boundary[:, 3].reshape(-1, 1, 1).to(frame, non_blocking=True)
    if rnnt_type == "constrained":
        px = px + py[:, 1:]
    if delay_penalty > 0.0:
        px = px + delay_penalty * ((t_end - 1) / 2 - frame)
    if rnnt_type == "regular":
        # Column t_end is masked too, because an utterance shorter than the batch has further columns behind its end.
        px = functional.pad(px.masked_fill(frame == t_end, -_INFINITY), (0, 1), value=-_INFINITY)
    return px, py


@dataclass(frozen=True)
class _AmScores:
    """The encoder's part of additive logits, ready to be mixed with a predictor's distributions.

    ``exp`` (B, T, C) is the exponential of the logits less ``maximum`` (B, T, 1), which carries no gradient
    because it cancels out; ``symbol`` is (B, S, T) and ``blank`` (B, 1, T).
    """

    exp: Tensor
    maximum: Tensor
    symbol: Tensor
    blank: Tensor

    @classmethod
    def of(cls, am: Tensor, lm: Tensor, symbols: Tensor, termination_symbol: int) -> _AmScores:
        """Prepare (B, T, C) ``am``, after checking all shapes."""
        assert lm.ndim == am.ndim == 3, (lm.shape, am.shape)
        # Batch and units agree.
        assert lm.shape[::2] == am.shape[::2], (lm.shape, am.shape)
        assert symbols.shape == (lm.shape[0], lm.shape[1] - 1), (symbols.shape, lm.shape)
        maximum = am.detach().amax(dim=2, keepdim=True)
        every_frame = symbols.unsqueeze(1).expand(-1, am.shape[1], -1)
        return cls(
            exp=(am - maximum).exp(),
            maximum=maximum,
            symbol=am.gather(2, every_frame).transpose(1, 2),
            blank=am[:, None, :, termination_symbol],
        )

    def mixed_with(self, lm_probs: Tensor, lm_symbol: Tensor, lm_blank: Tensor) -> ArcScores:
        """Return log-probabilities of the arcs under softmax(am + log lm).

        Args:
            lm_probs: (B, S + 1, C), or (B, 1, C) for one distribution at all positions.
            lm_symbol: (B, S, 1) log-probabilities of the symbols in ``lm_probs``.
            lm_blank: (B, S + 1, 1) log-probabilities of the blank.
        """
        # (B, S + 1, T): the sum over units of exp(am - maximum) lm is one matrix product.
        total = lm_probs @ self.exp.transpose(1, 2)
        # A sum of exponentials may underflow to 0.
        normaliser = (total + torch.finfo(total.dtype).tiny).log() + self.maximum.transpose(1, 2)
        px = self.symbol + lm_symbol - normaliser[:, : self.symbol.shape[1]]
        return px, self.blank + lm_blank - normaliser


def _arcs_of(lm_log_probs: Tensor, symbols: Tensor, termination_symbol: int) -> ArcScores:
    """Pick the next symbol's and the blank's entry of (B, S + 1, C) log-probabilities: (B, S, 1), (B, S + 1, 1)."""
    return lm_log_probs[:, :-1].gather(2, symbols.unsqueeze(2)), lm_log_probs[:, :, termination_symbol, None]
