"""At which encoder frame a trained model emits each token of a reference: its best path through the lattice."""

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


@torch.no_grad()
def align_batches(
    model: Transducer, batches: Iterable[Batch], subnet: Subnet | None, loss: LossConfig
) -> Iterator[tuple[str, list[int]]]:
    """Utterance ids, and the encoder frame of each of their tokens; -1 for all of them where there is no alignment.

    Args:
        model: in eval mode; the batches are moved to its device.
        subnet: what aligns, None = the max subnet.
        loss: its ``rnnt_type`` is the lattice that the model was trained on.
    """
    device = model.feature_mean.device
    for batch in (batch.to(device) for batch in batches):
        if batch.pieces:
            yield batch.ids[0], [-1] * batch.num_tokens
            continue
        encoder = model.encode(batch.x, batch.x_lens, subnet)
        px, py = arc_log_probs(model, model.project_encoder(encoder.out, subnet), batch.y)
        zeros = torch.zeros_like(batch.y_lens)
        boundary = torch.stack([zeros, zeros, batch.y_lens, encoder.lens], dim=1)
        frames = best_path(px, py, boundary, loss.rnnt_type)
        for name, row, tokens in zip(batch.ids, frames.tolist(), batch.y_lens.tolist(), strict=True):
            yield name, [-1] * tokens if name in batch.unheard else row[:tokens]


def arc_log_probs(model: Transducer, am: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the full lattice, (N, U, T) of tokens and (N, U + 1, T) of blanks, some frames at a time.

    Args:
        am: (N, T, J) projected encoder output.
        y: (N, U) token ids.
    """
    lm = model.joiner.project_predictor(model.predictor(y)).unsqueeze(1)
    step = max(1, LOGITS_AT_ONCE // (lm.shape[0] * lm.shape[2] * model.vocab_size))
    parts = [
        joint_log_probs(model.joiner(frames.unsqueeze(2), lm), y, model.blank_id) for frames in am.split(step, dim=1)
    ]
    px, py = zip(*parts, strict=True)
    return torch.cat(px, dim=2), torch.cat(py, dim=2)
