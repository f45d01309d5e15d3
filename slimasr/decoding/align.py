"""Aligns references: at which encoder frame a trained model emits each token on its best path through the lattice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from slimasr.config.loss import LossConfig
from slimasr.data.batch import Batch
from slimasr.losses.transducer.alignment import best_path
from slimasr.losses.transducer.log_probs import joint_log_probs
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet

LOGITS_AT_ONCE = 1 << 24
"""The joiner's output is computed for so many frames that it has at most this many numbers (64 MiB in float32)."""


@torch.no_grad()
def align_batches(
    model: Transducer, batches: Iterable[Batch], subnet: Subnet | None, loss: LossConfig
) -> Iterator[tuple[str, list[int]]]:
    """Align the utterances of some batches with their references.

    Args:
        model: in eval mode; the batches are moved to its device.
        batches: features and references.
        subnet: the subnet that aligns, None = the max subnet.
        loss: its ``rnnt_type`` is the lattice that the model was trained on.

    Yields:
        The id of each utterance, and the encoder frame of each of its tokens; all frames are -1 if it has no alignment.
    """
    device = model.feature_mean.device
    for batch in (batch.to(device) for batch in batches):
        if batch.pieces:
            # Too long for the model at once. It is encoded in pieces, and nobody knows which piece has which tokens.
            yield batch.ids[0], [-1] * batch.num_tokens
            continue
        encoder = model.encode(batch.x, batch.x_lens, subnet)
        px, py = arc_log_probs(model, model.project_encoder(encoder.out, subnet), batch.y)
        # Begin and end of each utterance in the lattice: rows of 0, 0, number of tokens, number of frames.
        zeros = torch.zeros_like(batch.y_lens)
        boundary = torch.stack([zeros, zeros, batch.y_lens, encoder.lens], dim=1)
        frames = best_path(px, py, boundary, loss.rnnt_type)
        for name, row, tokens in zip(batch.ids, frames.tolist(), batch.y_lens.tolist(), strict=True):
            # The model has seen silence instead of an utterance without audio.
            yield name, [-1] * tokens if name in batch.unheard else row[:tokens]


def arc_log_probs(model: Transducer, am: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the log-probabilities of the full lattice, some frames at a time so that memory is bounded.

    Args:
        model: in eval mode.
        am: (N, T, J) projected encoder output.
        y: (N, U) token ids.

    Returns:
        (N, U, T) of tokens and (N, U + 1, T) of blanks.
    """
    # (N, 1, U + 1, J), which broadcasts over frames
    lm = model.joiner.project_predictor(model.predictor(y)).unsqueeze(1)
    step = max(1, LOGITS_AT_ONCE // (lm.shape[0] * lm.shape[2] * model.vocab_size))
    px: list[Tensor] = []
    py: list[Tensor] = []
    for frames in am.split(step, dim=1):
        logits = model.joiner(frames.unsqueeze(2), lm)
        of_tokens, of_blanks = joint_log_probs(logits, y, model.blank_id)
        px.append(of_tokens)
        py.append(of_blanks)
    return torch.cat(px, dim=2), torch.cat(py, dim=2)
