"""Frame targets from an alignment, their cross-entropy loss, and the distance from a teacher's posteriors (paper 3)."""

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
    """Compute the (N,) cross-entropy in nats, summed over an utterance's frames (paper 3, equation 6).

    It is float32 (float64 for float64 scores).

    Args:
        logits: (N, T, S) scores of S classes.
        targets: (N, T) classes or `IGNORED`.
    """
    with torch.autocast(device_type=logits.device.type, enabled=False):
        scores = _upcast(logits).flatten(0, 1)
        losses = F.cross_entropy(scores, targets.flatten(), ignore_index=IGNORED, reduction="none")
    return losses.view(targets.shape).sum(dim=1)


@torch.no_grad()
def frame_posteriors(logits: Tensor) -> Tensor:
    """Return the (N, T, S) log posteriors that a teacher passes on (paper 3, equation 5), without a graph.

    They are float32 (float64 for float64 scores), because the divergence needs their small differences.
    """
    return _upcast(logits).log_softmax(dim=2)


def frame_divergence(logits: Tensor, teacher: Tensor, inside: Tensor) -> Tensor:
    """Compute the (N,) divergence KL(teacher || student) in nats, summed over an utterance's frames.

    Args:
        logits: (N, T, S) the student's scores of S classes.
        teacher: (N, T, S) `frame_posteriors` of the teacher.
        inside: (N, T) bool, the frames that count. At the others, all scores may be arbitrary, but finite.

    Source: paper 3, equation 7.
    """
    with torch.autocast(device_type=logits.device.type, enabled=False):
        student = _upcast(logits).log_softmax(dim=2)
        # Summed over classes before the mask, so that padding adds exactly 0.
        frames = F.kl_div(student, teacher.to(student.dtype), log_target=True, reduction="none").sum(dim=2)
    return frames.masked_fill(~inside, 0.0).sum(dim=1)


def _upcast(logits: Tensor) -> Tensor:
    """Convert to float32, or keep float64."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
