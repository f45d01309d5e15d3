"""The best single path through the transducer's lattice: at which frame each symbol is emitted."""

from __future__ import annotations

import torch
from torch import Tensor

from slimasr.losses.transducer.lattice import DiagonalLattice, check_boundary
from slimasr.losses.transducer.log_probs import RnntType, joint_log_probs, with_topology


@torch.no_grad()
def best_alignment(
    logits: Tensor,
    symbols: Tensor,
    boundary: Tensor | None = None,
    rnnt_type: RnntType = "regular",
    termination_symbol: int = 0,
) -> Tensor:
    """Find the frame at which each symbol is emitted on the best path of the full lattice (Viterbi): (B, S) int64.

    Args:
        logits: (B, T, S + 1, C) output of the joiner, not normalised; scores are at least float32.
        symbols: (B, S) int64.
        boundary: (B, 4) int64 rows ``0, 0, S_b, T_b``, None = no padding.
        termination_symbol: the blank.

    Returns:
        Frames; -1 after an utterance's last symbol, and everywhere in an utterance without any alignment.

    Raises:
        ValueError: ``rnnt_type`` is unknown, or a boundary lies outside of the lattice or does not begin at 0, 0.
    """
    with torch.autocast(device_type=logits.device.type, enabled=False):
        px, py = joint_log_probs(logits, symbols, termination_symbol)
    return best_path(px, py, boundary, rnnt_type)


@torch.no_grad()
def best_path(px: Tensor, py: Tensor, boundary: Tensor | None = None, rnnt_type: RnntType = "regular") -> Tensor:
    """Compute `best_alignment` from log-probabilities: (B, S, T) of symbols and (B, S + 1, T) of blanks.

    The recursion is that of the loss, with a maximum in place of the sum. Its arcs then show through which one the best
    path enters each node, and all paths are followed back together.
    """
    limits = check_boundary(boundary, px.shape[0], px.shape[1], py.shape[2])
    if limits[:, :2].any():
        raise ValueError("boundary: alignments begin at symbol 0 and frame 0")
    px, py = with_topology(px, py, boundary, rnnt_type, delay_penalty=0.0)
    lattice = DiagonalLattice(px, py, limits[:, 2:])
    scores = lattice.forward(torch.maximum)
    # (K, R, B): whether the best path into a node at distance k + 1 ends with the symbol. Ties go to the blank.
    by_symbol = lattice.arcs[:, 0] > lattice.arcs[:, 1]
    # One column per row: column r is the frame that emits symbol r - 1, and column 0 stays unused.
    frames = torch.full((px.shape[0], lattice.rows), -1, dtype=torch.int64, device=px.device)
    row = lattice.end_row.clone()
    utterance = lattice.utterance
    # An utterance joins at its own end, and never if it has no path.
    inside = lattice.end_distance * (scores > float("-inf"))
    for k in range(lattice.steps - 1, -1, -1):
        emits = by_symbol[k, row, utterance] & (k < inside)
        # The arc into row r emits symbol r - 1, on the frame of the node that it leaves.
        frame = k - lattice.skew * (row - 1)
        frames[utterance, row] = torch.where(emits, frame, frames[utterance, row])
        row = row - emits.to(row.dtype)
    return frames[:, 1:]
