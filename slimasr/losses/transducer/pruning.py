"""Select the positions of the lattice for the full joiner: a window of R consecutive positions per frame."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor


def prune_ranges(px_grad: Tensor, py_grad: Tensor, boundary: Tensor, s_range: int) -> Tensor:
    """Find the windows of highest occupation probability, adjusted to a band that a path can follow to the end.

    Args:
        px_grad: (B, S, T + 1) or (B, S, T) occupation of the symbol arcs.
        py_grad: (B, S + 1, T) occupation of the blank arcs.
        boundary: (B, 4) int64.
        s_range: positions to keep per frame. It is limited to S + 1. In the regular topology it is raised, with a
            warning, to the smallest width with which every utterance can reach its last symbol.

    Returns:
        (B, T, R) int64: the positions kept. Starts rise by less than R from frame to frame (at most 1 where
        a symbol takes a frame), begin at 0 and end so that the last position is inside.

    Raises:
        ValueError: ``s_range`` is below 2 in the regular topology (no path could advance) or below 1.

    Source: section 3.2 of Kuang et al. 2022.
    """
    batch_size, num_symbols, px_frames = px_grad.shape
    num_frames = py_grad.shape[2]
    assert py_grad.shape == (batch_size, num_symbols + 1, num_frames), (px_grad.shape, py_grad.shape)
    assert boundary.shape == (batch_size, 4), boundary.shape
    regular = px_frames == num_frames + 1
    # The width is a number, computed where the boundary should be: on the CPU, so that nothing waits for the device.
    limits = boundary.cpu()
    width = _window_width(s_range, num_symbols, limits[:, 2], limits[:, 3], regular)
    boundary = boundary.to(px_grad.device, non_blocking=True)
    s_end = boundary[:, 2, None]
    t_end = boundary[:, 3, None]

    # Occupation inside a window: its blank arcs, minus the mass that enters its first position by a symbol
    # (that symbol is scored at the previous position, which is outside of the window).
    inside = py_grad.unfold(1, width, 1).sum(dim=3)  # (B, S + 2 - width, T)
    if num_symbols:
        inside[:, 1:] -= px_grad[:, : inside.shape[1] - 1, :num_frames]
    start = inside.argmax(dim=1)

    # From its last frame on, an utterance's window ends at its last position, where every path must arrive.
    frame = torch.arange(num_frames, device=px_grad.device)
    last_start = (s_end - width + 1).clamp(min=0)
    start = torch.where(frame < t_end - 1, start, last_start)
    start = _followable(start, max_rise=width - 1 if regular else 1)
    return start.unsqueeze(2) + torch.arange(width, device=px_grad.device)


def prune_joiner_inputs(am: Tensor, lm: Tensor, ranges: Tensor) -> tuple[Tensor, Tensor]:
    """Pair each frame with the predictor's output at the positions that were kept for it.

    Args:
        am: (B, T, C_am) encoder side of the joiner's input.
        lm: (B, S + 1, C_lm) predictor side of the joiner's input.
        ranges: (B, T, R) from `prune_ranges`.

    Returns:
        (B, T, R, C_am), which is a view, and (B, T, R, C_lm).
    """
    batch_size, num_frames, width = ranges.shape
    assert am.shape[:2] == (batch_size, num_frames), (am.shape, ranges.shape)
    assert lm.shape[0] == batch_size, (lm.shape, ranges.shape)
    am_pruned = am.unsqueeze(2).expand(-1, -1, width, -1)
    # One flat row index per position, so that whole rows are copied and whole gradients are added.
    first_row = torch.arange(batch_size, device=ranges.device).reshape(-1, 1, 1) * lm.shape[1]
    rows = (ranges + first_row).reshape(-1)
    lm_pruned = lm.flatten(0, 1).index_select(0, rows).view(batch_size, num_frames, width, lm.shape[2])
    return am_pruned, lm_pruned


def _window_width(s_range: int, num_symbols: int, s_end: Tensor, t_end: Tensor, regular: bool) -> int:
    """Adjust ``s_range``: wide enough to reach the end, not wider than the lattice."""
    if s_range < (2 if regular else 1):
        raise ValueError(f"s_range must be at least {2 if regular else 1} for this lattice, not {s_range}")
    if regular:
        # A path advances by at most width - 1 symbols per frame, so width - 1 must be at least S_b / T_b, rounded up.
        needed = int(((s_end - 1).div(t_end.clamp(min=1), rounding_mode="trunc") + 2).max())
        if s_range < needed:
            warnings.warn(
                f"s_range {s_range} is too narrow for an utterance of this batch; using {needed}",
                stacklevel=2,
            )
            s_range = needed
    return min(s_range, num_symbols + 1)


def _followable(start: Tensor, max_rise: int) -> Tensor:
    """Adjust (B, T) starts so that they begin at 0, never decrease and increase by at most ``max_rise``.

    Decreases are removed by lowering the frames before them, and steep increases by raising the frames before them,
    because lowering the frames after them would lose the last symbol.
    """
    rising = _reverse_cummin(start)
    ramp = max_rise * torch.arange(start.shape[1], device=start.device)
    # start[t + 1] - start[t] <= max_rise is equivalent to: ramp - start does not decrease.
    slack = _reverse_cummin(ramp - rising).clamp(min=0)
    return ramp - slack


def _reverse_cummin(values: Tensor) -> Tensor:
    """Return the smallest value from each frame on: the largest non-decreasing sequence below ``values``."""
    return values.flip(-1).cummin(dim=-1).values.flip(-1)
