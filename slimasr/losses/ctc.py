"""Connectionist temporal classification, one sum per utterance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def ctc_loss(logits: Tensor, x_lens: Tensor, y: Tensor, y_lens: Tensor, blank: int = 0) -> Tensor:
    """Compute the CTC loss of each utterance, summed over its alignments and in nats (Graves et al. 2006).

    It is computed in float32 (float64 for float64 input), also under autocast. ``logits`` are raw scores, which are
    normalised here.

    Args:
        logits: (N, T, V) unnormalised scores.
        x_lens: (N,) frames of each utterance, at most T.
        y: (N, U) labels, padded with any value; labels must not be ``blank``.
        y_lens: (N,) labels of each utterance, at most U; 0 is allowed.
        blank: index of the blank unit.

    Returns:
        (N,) losses. An utterance without any alignment (fewer frames than labels plus repeated labels) has loss 0 and
        zero gradient, so that it does not affect its batch; the data stage finds, counts and drops such utterances.
    """
    assert logits.ndim == 3, logits.shape
    assert y.ndim == 2, y.shape
    num_utterances, num_frames, _ = logits.shape
    assert y.shape[0] == num_utterances, (logits.shape, y.shape)
    assert x_lens.shape == y_lens.shape == (num_utterances,), (x_lens.shape, y_lens.shape)
    assert int(x_lens.max()) <= num_frames, (x_lens, num_frames)
    # Sums of log probabilities over hundreds of frames do not fit half precision.
    with torch.autocast(device_type=logits.device.type, enabled=False):
        scores = logits if logits.dtype == torch.float64 else logits.float()
        log_probs = scores.log_softmax(dim=-1)
        return functional.ctc_loss(
            # torch expects frames before utterances: (T, N, V).
            log_probs.transpose(0, 1),
            y,
            x_lens,
            y_lens,
            blank=blank,
            reduction="none",
            # An utterance without any alignment would have loss inf and NaN gradients.
            zero_infinity=True,
        )
