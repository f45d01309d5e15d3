"""Frame targets from an alignment, and their cross-entropy loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -1


def frame_targets(alignment: Tensor, y: Tensor, lens: Tensor, num_frames: int) -> Tensor:
    """Assign to every frame, (N, T) int64, the token that is emitted nearest to it.

    A transducer determines when a token is emitted, not how long it lasts, and blanks carry no information about the
    audio. The boundary between two tokens is therefore halfway between their emissions; a frame on it belongs to the
    earlier token.

    Args:
        alignment: (N, U) int64, the frame that emits each token, ascending; -1 on padding and for utterances without
            an alignment.
        y: (N, U) int64 token ids.
        lens: (N,) int64 frames per utterance.
        num_frames: T.

    Returns:
        Token ids; `IGNORED` on padding and for utterances without an alignment.
    """
    assert alignment.shape == y.shape, (alignment.shape, y.shape)
    frames = torch.arange(num_frames, device=y.device)
    aligned = alignment >= 0
    # (N, T): frames that get a target.
    inside = (frames < lens.to(y.device, non_blocking=True).unsqueeze(1)) & aligned.any(dim=1, keepdim=True)
    # If all transcripts are empty, there is no token to gather.
    if y.shape[1] == 0:
        return torch.full_like(inside, IGNORED, dtype=torch.int64)
    # (N, U - 1) midpoints between emissions, doubled, so that halves are whole numbers. Padding lies behind all frames.
    boundaries = (alignment[:, :-1] + alignment[:, 1:]).masked_fill(~aligned[:, 1:], 2 * num_frames)
    # (N, T): the number of boundaries before each frame, which is the index of its token.
    segment = torch.searchsorted(boundaries.contiguous(), (2 * frames).expand(len(y), -1).contiguous())
    return y.gather(1, segment).masked_fill(~inside, IGNORED)


def frame_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the (N,) cross-entropy in nats, summed over an utterance's frames, in float32.

    Args:
        logits: (N, T, V) scores.
        targets: (N, T) token ids or `IGNORED`.
    """
    with torch.autocast(device_type=logits.device.type, enabled=False):
        losses = F.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
        )
    return losses.view(targets.shape).sum(dim=1)
