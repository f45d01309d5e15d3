"""The transducer's lattice recursion by anti-diagonals, with a hand-written backward pass.

The lattice has a node (s, t) for "s symbols emitted, at frame t". Two kinds of arc leave a node: a symbol
(score ``px[s, t]``) and a blank (score ``py[s, t]``, one frame on). In the *regular* topology a symbol
stays on its frame and ``px`` has one column more than ``py``; otherwise a symbol also moves one frame on
and both have T columns. All paths from (s_begin, t_begin) to (s_end, t_end) are summed.

All nodes at the same distance from the start (``s + t`` when regular, ``t`` when not) depend only on the
distance before, so the recursion runs over distances and handles all symbols of all utterances at once. Arc
scores are laid out by the distance they leave from, symbols before utterances, which makes "one symbol
less" a shift of a contiguous block: a distance costs two kernels forward (add, log-add) and two backward
(multiply-add, twice).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Occupation = tuple[Tensor, Tensor]
Combine = Callable[..., Tensor]


def lattice_scores(
    px: Tensor, py: Tensor, boundary: Tensor | None = None, return_grad: bool = False
) -> tuple[Tensor, Occupation | None]:
    """Sum the scores of all paths through each utterance's lattice, in the log domain.

    Args:
        px: (B, S, T + 1) symbol arc scores (regular topology) or (B, S, T) (a symbol also takes a frame).
        py: (B, S + 1, T) blank arc scores of the same dtype, float32 or float64.
        boundary: (B, 4) int64 rows ``s_begin, t_begin, s_end, t_end``; ``0, 0, S, T`` when None.
        return_grad: also return the occupation probabilities of the arcs.

    Returns:
        (B,) log sums, ``-inf`` if there is no path (with zero gradient), and None or the pair of
        occupations, shaped like px and py: the gradients of ``scores.sum()``, outside of autograd.

    Raises:
        ValueError: a boundary lies outside of the lattice.
    """
    batch_size, num_symbols, _ = px.shape
    num_frames = py.shape[2]
    assert px.shape[2] in (num_frames, num_frames + 1), (px.shape, py.shape)
    assert py.shape == (batch_size, num_symbols + 1, num_frames), (px.shape, py.shape)
    assert px.dtype == py.dtype, (px.dtype, py.dtype)
    boundary = check_boundary(boundary, batch_size, num_symbols, num_frames)
    # Gradients are always off inside the autograd function, so this is decided here.
    needs_grad = torch.is_grad_enabled() and (px.requires_grad or py.requires_grad)
    scores, px_occupation, py_occupation = _LatticeScores.apply(px, py, boundary, return_grad or needs_grad)
    return scores, ((px_occupation, py_occupation) if return_grad else None)


def check_boundary(boundary: Tensor | None, batch_size: int, num_symbols: int, num_frames: int) -> Tensor:
    """Check that a boundary fits the lattice, and return it on the CPU, (B, 4), with the default if it is None.

    Raises:
        ValueError: a row is not ``0 <= s_begin <= s_end <= S`` and ``0 <= t_begin <= t_end <= T``.
    """
    if boundary is None:
        return torch.tensor([[0, 0, num_symbols, num_frames]]).expand(batch_size, 4)
    assert boundary.shape == (batch_size, 4), boundary.shape
    assert boundary.dtype == torch.int64, boundary.dtype
    # One transfer, so that the checks do not wait for the device one by one; none if it is on the CPU.
    boundary = boundary.cpu()
    begin = boundary[:, :2]
    end = boundary[:, 2:]
    inside = (begin >= 0) & (begin <= end) & (end <= torch.tensor([num_symbols, num_frames]))
    if not inside.all():
        row = int((~inside.all(dim=1)).nonzero()[0])
        raise ValueError(
            f"boundary of utterance {row} is {boundary[row].tolist()} (s_begin, t_begin, s_end, t_end), "
            f"outside of a lattice of {num_symbols} symbols and {num_frames} frames"
        )
    return boundary


class _LatticeScores(torch.autograd.Function):
    """Scores and arc occupations; the latter are all of the backward pass, so they come with the scores."""

    @staticmethod
    def forward(
        ctx: Any, px: Tensor, py: Tensor, boundary: Tensor, with_occupation: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        begin = boundary[:, :2]
        # The recursion starts all lattices at node (0, 0).
        shifted = bool(begin.any())
        if shifted:
            px = _roll(px, begin)
            py = _roll(py, begin)
        lattice = DiagonalLattice(px, py, boundary[:, 2:] - begin)
        scores = lattice.forward()
        if not with_occupation:
            return scores, None, None
        px_occupation, py_occupation = lattice.backward(scores)
        if shifted:
            px_occupation = _roll(px_occupation, -begin)
            py_occupation = _roll(py_occupation, -begin)
        ctx.save_for_backward(px_occupation, py_occupation)
        ctx.mark_non_differentiable(px_occupation, py_occupation)
        return scores, px_occupation, py_occupation

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scores_grad: Tensor, *_: Any) -> tuple[Tensor, Tensor, None, None]:
        px_occupation, py_occupation = ctx.saved_tensors
        scores_grad = scores_grad.reshape(-1, 1, 1)
        return px_occupation * scores_grad, py_occupation * scores_grad, None, None


class DiagonalLattice:
    """One batch of lattices in the skewed layout; all of them start at node (0, 0).

    ``arcs`` is (K, 2, R, B): by the distance k at which the arc leaves, symbol or blank, the row r (number
    of symbols) that it *enters*, and utterance. Places without an arc stay at -inf.
    """

    def __init__(self, px: Tensor, py: Tensor, end: Tensor) -> None:
        self.batch_size, num_symbols, px_frames = px.shape
        num_frames = py.shape[2]
        self.rows = num_symbols + 1
        # How far a symbol arc alone moves along the diagonals' axis: 1 when regular, else 0.
        self.skew = px_frames - num_frames
        self.steps = num_frames + self.skew * num_symbols
        self.arcs = px.new_full((self.steps, 2, self.rows, self.batch_size), float("-inf"))
        plane = self.rows * self.batch_size
        row = self.batch_size
        step = 2 * plane
        # Writing through these views skews: entry (s, t) goes to distance skew * s + t. A symbol arc enters row s + 1,
        # hence its offset of one row; a blank arc stays in row s, in the plane of blanks.
        self.px_view = self.arcs.as_strided(
            (num_symbols, px_frames, self.batch_size), (self.skew * step + row, step, 1), row
        )
        self.py_view = self.arcs.as_strided(
            (self.rows, num_frames, self.batch_size), (self.skew * step + row, step, 1), plane
        )
        self.px_view.copy_(px.permute(1, 2, 0))
        self.py_view.copy_(py.permute(1, 2, 0))
        end = end.to(px.device, non_blocking=True)
        self.end_distance = self.skew * end[:, 0] + end[:, 1]
        self.end_row = end[:, 0]
        self.utterance = torch.arange(self.batch_size, device=px.device)

    def forward(self, combine: Combine = torch.logaddexp) -> Tensor:
        """Compute (B,) scores. Afterwards ``arcs`` holds the score of all paths that end with the arc.

        Args:
            combine: scores of the two arcs into a node -> the node's; ``torch.maximum`` finds best paths.
        """
        size = self.rows * self.batch_size
        row = self.batch_size
        # One row of -inf in front, to be "one symbol less" than none.
        stride = size + row
        alpha = self.arcs.new_full((self.steps + 1, self.rows + 1, self.batch_size), float("-inf"))
        alpha[0, 1] = 0.0
        # All views are made before the loop, whose body then only launches two kernels. A source is two overlapping
        # windows of alpha: shifted by one row for symbol arcs, and the same rows for blank arcs.
        sources = alpha.as_strided((self.steps, 2, size), (stride, row, 1)).unbind(0)
        targets = alpha.as_strided((self.steps, size), (stride, 1), stride + row).unbind(0)
        arcs = self.arcs.view(self.steps, 2, size)
        symbol_arcs = arcs[:, 0].unbind(0)
        blank_arcs = arcs[:, 1].unbind(0)
        for source, arc, by_symbol, by_blank, target in zip(
            sources, arcs.unbind(0), symbol_arcs, blank_arcs, targets, strict=True
        ):
            arc.add_(source)
            combine(by_symbol, by_blank, out=target)
        return alpha[self.end_distance, self.end_row + 1, self.utterance]

    def backward(self, scores: Tensor) -> Occupation:
        """Compute the occupation probabilities of the arcs, in px's and py's layout, overwriting ``arcs``."""
        symbol_share = self.arcs[:, 0]
        blank_share = self.arcs[:, 1]
        # A node's mass goes to its two incoming arcs in proportion to their scores. Nodes that no path
        # reaches (-inf minus -inf) and padding have no mass to share; their NaN would spread as 0 * NaN.
        torch.sub(symbol_share, blank_share, out=symbol_share).sigmoid_().nan_to_num_(nan=0.0)
        torch.sub(1.0, symbol_share, out=blank_share)

        mass = self.arcs.new_zeros(self.steps + 1, self.rows, self.batch_size)
        # Without a path there is no mass; a NaN score keeps its NaN.
        seed = torch.where(scores == float("-inf"), 0.0, 1.0 + 0.0 * scores)
        mass[self.end_distance, self.end_row, self.utterance] = seed
        # A symbol arc enters row r from row r - 1: its mass goes from `above` to `below`.
        node = mass.unbind(0)
        above = mass[:, 1:].unbind(0)
        below = mass[:, :-1].unbind(0)
        symbol = symbol_share[:, 1:].unbind(0)
        blank = blank_share.unbind(0)
        for k in range(self.steps - 1, -1, -1):
            node[k].addcmul_(node[k + 1], blank[k])
            below[k].addcmul_(above[k + 1], symbol[k])
        # An arc's occupation is its fraction of the mass of the node that it enters.
        self.arcs.mul_(mass[1:].unsqueeze(1))
        return self.px_view.permute(2, 0, 1).contiguous(), self.py_view.permute(2, 0, 1).contiguous()


def _roll(scores: Tensor, begin: Tensor) -> Tensor:
    """Move entry (s_begin, t_begin) of each utterance to (0, 0); what wraps around lies behind the end."""
    batch_size, rows, frames = scores.shape
    if rows == 0 or frames == 0:
        return scores
    begin = begin.to(scores.device, non_blocking=True)
    utterance = torch.arange(batch_size, device=scores.device).reshape(-1, 1, 1)
    row = (torch.arange(rows, device=scores.device).reshape(1, -1, 1) + begin[:, 0].reshape(-1, 1, 1)) % rows
    frame = (torch.arange(frames, device=scores.device).reshape(1, 1, -1) + begin[:, 1].reshape(-1, 1, 1)) % frames
    return scores[utterance, row, frame]
