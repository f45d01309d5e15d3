"""Align references: when each token is spoken, by a trained model's best path through its lattice or its CTC head."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from slimasr.config.loss import LossConfig
from slimasr.data.batches.batch import Batch
from slimasr.data.timelines.timeline import spans_of_emissions, spans_of_runs
from slimasr.encoders.base import EncoderOutput
from slimasr.losses.ctc_alignment import ctc_best_path
from slimasr.losses.transducer.alignment import best_path
from slimasr.losses.transducer.log_probs import joint_log_probs
from slimasr.models.base import SpeechModel
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet

LOGITS_AT_ONCE = 1 << 24
"""The joiner's output is computed for so many frames that it has at most this many numbers (64 MiB in float32)."""

Spans = list[tuple[int, int]]
"""The first feature frame of each token, and the frame behind its last one."""


@torch.no_grad()
def align_batches(
    model: SpeechModel, batches: Iterable[Batch], subnet: Subnet | None, loss: LossConfig, source: str
) -> Iterator[tuple[str, Spans | None]]:
    """Align the utterances of some batches with their references.

    Args:
        model: in eval mode; the batches are moved to its device.
        batches: features and references.
        subnet: the subnet that aligns, None = the max subnet.
        loss: its ``rnnt_type`` is the lattice that the model was trained on.
        source: ``ctc`` for the best path of the CTC head, whose blanks are silence; ``transducer`` for that of the
            transducer, where each token lasts until halfway to the next one.

    Yields:
        The id of each utterance and the spans of its tokens, None if it has no alignment.
    """
    device = model.feature_mean.device
    for batch in (batch.to(device) for batch in batches):
        if batch.pieces:
            # Too long for the model at once. It is encoded in pieces, and nobody knows which piece has which tokens.
            yield batch.ids[0], None
            continue
        encoder = model.encode(batch.x, batch.x_lens, subnet)
        if source == "ctc":
            found = _ctc_spans(model, batch, encoder, subnet)
        else:
            found = _transducer_spans(model, batch, encoder, subnet, loss)
        for name, spans in zip(batch.ids, found, strict=True):
            # The model has seen silence instead of an utterance without audio.
            yield name, None if name in batch.unheard else spans


def _ctc_spans(
    model: SpeechModel, batch: Batch, encoder: EncoderOutput, subnet: Subnet | None
) -> Iterator[Spans | None]:
    logits = model.ctc_logits(encoder.out, subnet)
    paths, scores = ctc_best_path(logits, encoder.lens, batch.y, batch.y_lens, model.blank_id)
    rows = zip(paths.tolist(), encoder.lens.tolist(), batch.x_lens.tolist(), batch.y_lens.tolist(), strict=True)
    for (path, length, frames, tokens), possible in zip(rows, (scores > float("-inf")).tolist(), strict=True):
        yield spans_of_runs(path[:length], tokens, model.subsampling_factor, frames) if possible else None


def _transducer_spans(
    model: SpeechModel, batch: Batch, encoder: EncoderOutput, subnet: Subnet | None, loss: LossConfig
) -> Iterator[Spans | None]:
    assert isinstance(model, Transducer), "only a transducer has a lattice"
    px, py = arc_log_probs(model, model.project_encoder(encoder.out, subnet), batch.y)
    # Begin and end of each utterance in the lattice: rows of 0, 0, number of tokens, number of frames.
    zeros = torch.zeros_like(batch.y_lens)
    boundary = torch.stack([zeros, zeros, batch.y_lens, encoder.lens], dim=1)
    emissions = best_path(px, py, boundary, loss.rnnt_type)
    for row, tokens, frames in zip(emissions.tolist(), batch.y_lens.tolist(), batch.x_lens.tolist(), strict=True):
        # -1 stands for a token without a frame.
        possible = -1 not in row[:tokens]
        yield spans_of_emissions(row[:tokens], model.subsampling_factor, frames) if possible else None


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
