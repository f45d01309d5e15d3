"""The seven functions; shared arguments are described in `slimasr.losses.transducer`."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from slimasr.losses.transducer.backend import Backend, resolve_backend, run_recursion
from slimasr.losses.transducer.lattice import Occupation
from slimasr.losses.transducer.log_probs import (
    RnntType,
    joint_log_probs,
    pruned_log_probs,
    simple_log_probs,
    smoothed_log_probs,
    with_topology,
)
from slimasr.losses.transducer.pruning import prune_joiner_inputs, prune_ranges
from slimasr.losses.transducer.restricted import EmissionWindows

Reduction = Literal["none", "mean", "sum"]


@overload
def rnnt_loss_simple(
    lm: Tensor,
    am: Tensor,
    symbols: Tensor,
    termination_symbol: int,
    boundary: Tensor | None = None,
    rnnt_type: RnntType = "regular",
    delay_penalty: float = 0.0,
    reduction: Reduction = "mean",
    return_grad: Literal[False] = False,
    *,
    backend: Backend = "auto",
) -> Tensor: ...
@overload
def rnnt_loss_simple(
    lm: Tensor,
    am: Tensor,
    symbols: Tensor,
    termination_symbol: int,
    boundary: Tensor | None = None,
    rnnt_type: RnntType = "regular",
    delay_penalty: float = 0.0,
    reduction: Reduction = "mean",
    *,
    return_grad: Literal[True],
    backend: Backend = "auto",
) -> tuple[Tensor, Occupation]: ...
def rnnt_loss_simple(
    lm: Tensor,
    am: Tensor,
    symbols: Tensor,
    termination_symbol: int,
    boundary: Tensor | None = None,
    rnnt_type: RnntType = "regular",
    delay_penalty: float = 0.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    *,
    backend: Backend = "auto",
) -> Tensor | tuple[Tensor, Occupation]:
    """Compute the transducer loss whose joiner is the sum of ``lm`` and ``am``, without that four-dimensional sum.

    Args:
        lm: (B, S + 1, C) predictor part of the logits.
        am: (B, T, C) encoder part of the logits.
        return_grad: also return the occupation probabilities ``(px_grad, py_grad)`` of the symbol arcs,
            (B, S, T + 1) if regular, else (B, S, T), and of the blank arcs, (B, S + 1, T).

    Returns:
        The loss, or ``(loss, (px_grad, py_grad))``.
    """
    with _full_precision(am):
        px, py = simple_log_probs(_upcast(lm), _upcast(am), symbols, termination_symbol)
        loss, occupation = _loss(px, py, boundary, rnnt_type, delay_penalty, reduction, backend, return_grad)
    return loss if occupation is None else (loss, occupation)


@overload
def rnnt_loss_smoothed(
    lm: Tensor,
    am: Tensor,
    symbols: Tensor,
    termination_symbol: int,
    lm_only_scale: float = 0.1,
    am_only_scale: float = 0.1,
    boundary: Tensor | None = None,
    rnnt_type: RnntType = "regular",
    delay_penalty: float = 0.0,
    reduction: Reduction = "mean",
    return_grad: Literal[False] = False,
    *,
    backend: Backend = "auto",
) -> Tensor: ...
@overload
def rnnt_loss_smoothed(
    lm: Tensor,
    am: Tensor,
    symbols: Tensor,
    termination_symbol: int,
    lm_only_scale: float = 0.1,
    am_only_scale: float = 0.1,
    boundary: Tensor | None = None,
    rnnt_type: RnntType = "regular",
    delay_penalty: float = 0.0,
    reduction: Reduction = "mean",
    *,
    return_grad: Literal[True],
    backend: Backend = "auto",
) -> tuple[Tensor, Occupation]: ...
def rnnt_loss_smoothed(
    lm: Tensor,
    am: Tensor,
    symbols: Tensor,
    termination_symbol: int,
    lm_only_scale: float = 0.1,
    am_only_scale: float = 0.1,
    boundary: Tensor | None = None,
    rnnt_type: RnntType = "regular",
    delay_penalty: float = 0.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    *,
    backend: Backend = "auto",
) -> Tensor | tuple[Tensor, Occupation]:
    """Compute `rnnt_loss_simple`, interpolated with the log-probabilities of the predictor and of the encoder alone.

    The interpolation keeps the simple joiner from relying on the predictor more than a full joiner would, which
    improves the prune ranges. ``lm`` alone is assumed to be a sensible distribution. The encoder alone is weighted by
    a unigram estimated from the whole batch, so the loss of an utterance depends slightly on its batch unless
    ``am_only_scale`` is 0.

    Args:
        lm: (B, S + 1, C) predictor part of the logits.
        am: (B, T, C) encoder part of the logits.
        lm_only_scale: weight of the predictor alone.
        am_only_scale: weight of the encoder alone; the sum of both keeps 1 minus the two weights.
        return_grad: as in `rnnt_loss_simple`.

    Returns:
        The loss, or ``(loss, (px_grad, py_grad))``.
    """
    with _full_precision(am):
        px, py = smoothed_log_probs(_upcast(lm), _upcast(am), symbols, termination_symbol, lm_only_scale, am_only_scale)
        loss, occupation = _loss(px, py, boundary, rnnt_type, delay_penalty, reduction, backend, return_grad)
    return loss if occupation is None else (loss, occupation)


def rnnt_loss(
    logits: Tensor,
    symbols: Tensor,
    termination_symbol: int,
    boundary: Tensor | None = None,
    rnnt_type: RnntType = "regular",
    delay_penalty: float = 0.0,
    reduction: Reduction = "mean",
    *,
    backend: Backend = "auto",
) -> Tensor:
    """Compute the transducer loss on the full lattice (Graves 2012).

    Args:
        logits: (B, T, S + 1, C) output of the joiner, not normalised.
    """
    with _full_precision(logits):
        px, py = joint_log_probs(logits, symbols, termination_symbol)
        return _loss(px, py, boundary, rnnt_type, delay_penalty, reduction, backend)[0]


def rnnt_loss_pruned(
    logits: Tensor,
    symbols: Tensor,
    ranges: Tensor,
    termination_symbol: int,
    boundary: Tensor | None = None,
    rnnt_type: RnntType = "regular",
    delay_penalty: float = 0.0,
    reduction: Reduction = "mean",
    *,
    backend: Backend = "auto",
) -> Tensor:
    """Compute the transducer loss over the alignments inside a band of the lattice (Kuang et al. 2022).

    Args:
        logits: (B, T, R, C) output of the joiner at the positions ``ranges``, not normalised.
        ranges: (B, T, R) int64 from `get_rnnt_prune_ranges`.
    """
    with _full_precision(logits):
        px, py = pruned_log_probs(logits, symbols, ranges, termination_symbol)
        return _loss(px, py, boundary, rnnt_type, delay_penalty, reduction, backend)[0]


def rnnt_loss_restricted(
    logits: Tensor,
    symbols: Tensor,
    ranges: Tensor,
    windows: EmissionWindows,
    termination_symbol: int,
    boundary: Tensor | None = None,
    rnnt_type: RnntType = "regular",
    delay_penalty: float = 0.0,
    reduction: Reduction = "mean",
    *,
    backend: Backend = "auto",
) -> Tensor:
    """Compute the transducer loss over the alignments that emit each symbol inside its window of frames.

    The windows come from `emission_windows` with the same ``boundary`` and ``rnnt_type``. An utterance that has no
    path inside of them is unrestricted, so the loss is +inf only where that of `rnnt_loss` is.

    Args:
        logits: (B, T, R, C) output of the joiner at the positions ``ranges``, not normalised.
        ranges: (B, T, R) int64 from `restricted_ranges` of these windows.
        windows: the frames at which each symbol may be emitted, and which utterances are unrestricted.

    Source: Mahadeokar et al. 2021, "Alignment restricted streaming recurrent neural network transducer".
    """
    with _full_precision(logits):
        px, py = pruned_log_probs(logits, symbols, ranges, termination_symbol)
        return _loss(windows.restrict(px), py, boundary, rnnt_type, delay_penalty, reduction, backend)[0]


def get_rnnt_prune_ranges(
    px_grad: Tensor, py_grad: Tensor, boundary: Tensor, s_range: int, *, backend: Backend = "auto"
) -> Tensor:
    """Select (B, T, R) positions for the full joiner, from the occupations that the simple loss returns.

    This is index arithmetic in torch; ``backend`` is only checked. See
    `slimasr.losses.transducer.pruning.prune_ranges`.
    """
    resolve_backend(backend)
    return prune_ranges(px_grad, py_grad, boundary, s_range)


def do_rnnt_pruning(am: Tensor, lm: Tensor, ranges: Tensor, *, backend: Backend = "auto") -> tuple[Tensor, Tensor]:
    """Select joiner inputs (B, T, R, C_am) and (B, T, R, C_lm) from (B, T, C_am), (B, S + 1, C_lm) by prune ranges.

    This is indexing in torch; ``backend`` is only checked. See
    `slimasr.losses.transducer.pruning.prune_joiner_inputs`.
    """
    resolve_backend(backend)
    return prune_joiner_inputs(am, lm, ranges)


def _loss(
    px: Tensor,
    py: Tensor,
    boundary: Tensor | None,
    rnnt_type: RnntType,
    delay_penalty: float,
    reduction: Reduction,
    backend: Backend,
    return_grad: bool = False,
) -> tuple[Tensor, Occupation | None]:
    """Reduce the loss from log-probabilities (B, S, T) and (B, S + 1, T), with occupations if ``return_grad``."""
    px, py = with_topology(px, py, boundary, rnnt_type, delay_penalty)
    scores, occupation = run_recursion(px, py, boundary, backend, return_grad)
    if reduction == "none":
        return -scores, occupation
    if reduction == "mean":
        return -scores.mean(), occupation
    if reduction == "sum":
        return -scores.sum(), occupation
    raise ValueError(f"reduction must be none, mean or sum, not {reduction!r}")


def _full_precision(tensor: Tensor) -> torch.autocast:
    """Switch autocast off, because sums of log-probabilities over hundreds of frames do not fit half precision."""
    return torch.autocast(device_type=tensor.device.type, enabled=False)


def _upcast(tensor: Tensor) -> Tensor:
    """Convert to float32, or keep float64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
