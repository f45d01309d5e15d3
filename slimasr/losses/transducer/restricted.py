"""Windows of frames around an alignment, and the positions of the lattice that paths inside of them can reach.

A symbol whose last frame is e may be emitted from frame e - left_buffer to frame e + right_buffer. Hence few of the
S + 1 positions are reachable at a frame, and only these need the full joiner.

Source: Mahadeokar et al. 2021, "Alignment restricted streaming recurrent neural network transducer".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from slimasr.losses.transducer.lattice import check_boundary
from slimasr.losses.transducer.log_probs import RnntType, check_rnnt_type

# A frame behind the end of all utterances.
_NEVER = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class EmissionWindows:
    """The first and the last frame at which each symbol may be emitted.

    Attributes:
        first: (B, S) int64, never decreasing along a row. Padding lies behind all frames, also in ``last``.
        last: (B, S) int64, never decreasing along a row.
        unrestricted: (B,) bool, the utterances whose windows hold all of their frames because they have no alignment,
            or no path inside the windows of their alignment.
    """

    first: Tensor
    last: Tensor
    unrestricted: Tensor

    def select(self, rows: Tensor) -> EmissionWindows:
        """Select utterances by (K,) int64 indices or by a (B,) bool mask."""
        return EmissionWindows(self.first[rows], self.last[rows], self.unrestricted[rows])

    def crop(self, num_symbols: int) -> EmissionWindows:
        """Keep the first symbols, which are all that utterances with few symbols have."""
        return EmissionWindows(self.first[:, :num_symbols], self.last[:, :num_symbols], self.unrestricted)

    def to(self, device: torch.device) -> EmissionWindows:
        """Return the same windows on a device; the copies are queued and not waited for."""
        tensors = (self.first, self.last, self.unrestricted)
        return EmissionWindows(*(tensor.to(device, non_blocking=True) for tensor in tensors))

    def restrict(self, px: Tensor) -> Tensor:
        """Set (B, S, T) log-probabilities of symbols to -inf outside of the windows."""
        # Blanks need no mask: a blank that leaves the windows leads to a node from which the next symbol, and thus the
        # end, cannot be reached any more.
        frame = torch.arange(px.shape[2], device=px.device)
        outside = (frame < self.first.unsqueeze(2)) | (frame > self.last.unsqueeze(2))
        return px.masked_fill(outside, -torch.inf)


def emission_windows(
    ends: Tensor,
    boundary: Tensor,
    left_buffer: int,
    right_buffer: int,
    rnnt_type: RnntType = "regular",
) -> EmissionWindows:
    """Open a window of ``left_buffer + 1 + right_buffer`` frames for each symbol, within its utterance.

    Args:
        ends: (B, S) int64, the last frame of each symbol; -1 everywhere in an utterance without alignment. Frames
            behind an utterance count as its last frame. A symbol that ends before its predecessor is taken to end with
            it.
        boundary: (B, 4) int64 rows ``0, 0, S_b, T_b``.
        left_buffer: frames before its last frame at which a symbol may be emitted.
        right_buffer: frames after its last frame at which a symbol may be emitted.
        rnnt_type: where a symbol takes a frame (any type but ``regular``), a window may hold too few frames for symbols
            that end together.

    Returns:
        The windows. An utterance is unrestricted if the end of any symbol is -1, or if no path emits all symbols inside
        their windows.

    Raises:
        ValueError: a buffer is negative, ``rnnt_type`` is unknown, or a boundary lies outside of the lattice or does
            not begin at 0, 0.
    """
    check_rnnt_type(rnnt_type)
    for name, buffer in (("left_buffer", left_buffer), ("right_buffer", right_buffer)):
        if buffer < 0:
            raise ValueError(f"{name} must be at least 0 frames, not {buffer}")
    assert ends.dtype == torch.int64, ends.dtype
    batch_size, num_symbols = ends.shape
    # Nothing here depends on the padded number of frames, so any end in time is inside of the lattice.
    limits = check_boundary(boundary, batch_size, num_symbols, _NEVER)
    if limits[:, :2].any():
        raise ValueError("boundary: alignments begin at symbol 0 and frame 0")
    limits = limits.to(ends.device)
    symbol = torch.arange(num_symbols, device=ends.device)
    padding = symbol >= limits[:, 2, None]
    last_frame = limits[:, 3, None] - 1

    aligned = torch.minimum(ends, last_frame).cummax(dim=1).values
    first = (aligned - left_buffer).clamp(min=0)
    last = torch.minimum(aligned + right_buffer, last_frame)

    # The earliest path emits a symbol at the start of its window, or as soon as it can after the symbol before:
    # earliest[s] = max over r <= s of (first[r] + (s - r) * step).
    step = 0 if rnnt_type == "regular" else 1
    earliest = (first - step * symbol).cummax(dim=1).values + step * symbol
    possible = (ends >= 0) & (earliest <= last)
    unrestricted = ~(possible | padding).all(dim=1)

    everywhere = unrestricted.unsqueeze(1)
    first = first.masked_fill(everywhere, 0).masked_fill(padding, _NEVER)
    last = torch.where(everywhere, last_frame, last).masked_fill(padding, _NEVER)
    return EmissionWindows(first, last, unrestricted)


def restricted_ranges(windows: EmissionWindows, num_frames: int) -> Tensor:
    """Select the positions of the lattice that paths inside the windows can reach.

    R is the number of positions at the densest frame of the batch. An unrestricted utterance needs all of its
    positions, so that the joiner runs at as many for every other utterance. To avoid this, select the unrestricted
    utterances and the others apart (windows, joiner inputs, symbols and boundary), and compute the losses of the two
    groups.

    Args:
        windows: from `emission_windows`.
        num_frames: T, padding included.

    Returns:
        (B, T, R) int64 consecutive positions of 0..S. Starts never decrease.
    """
    batch_size, num_symbols = windows.first.shape
    frame = torch.arange(num_frames, device=windows.first.device).expand(batch_size, -1).contiguous()
    # At frame t, all symbols whose windows are over have been emitted, and none whose window is still to come.
    lowest = torch.searchsorted(windows.last, frame)
    highest = torch.searchsorted(windows.first, frame, right=True)
    width = int((highest - lowest).max()) + 1 if frame.numel() else 1
    # A window that would reach behind position S begins earlier.
    start = lowest.clamp(max=num_symbols + 1 - width)
    return start.unsqueeze(2) + torch.arange(width, device=frame.device)
