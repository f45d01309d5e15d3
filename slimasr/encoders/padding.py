"""Which frames of a batch are padding."""

from __future__ import annotations

import torch
from torch import Tensor


def padding_mask(lens: Tensor, num_frames: int, device: torch.device) -> Tensor:
    """Return a mask (N, T) on ``device``, True on padding, for (N,) lengths on any device."""
    return torch.arange(num_frames, device=device) >= lens.to(device, non_blocking=True).unsqueeze(1)
