"""Batched modified beam search of a transducer.

"Modified" as in k2, icefall and sherpa-onnx: every hypothesis takes exactly one symbol per frame (blank or
a token), so all of them are at the same frame, and hypotheses with equal token sequences are merged by adding
their probabilities. ``<unk>`` counts as blank.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from slimasr.decoding.greedy import UNK_ID, step_emitting
from slimasr.decoding.searchable import Searchable
from slimasr.models.predictor import PredictorState


@dataclass(frozen=True)
class _Beam:
    """N utterances with B hypotheses each; a place whose score is -inf is empty.

    Attributes:
        scores: (N, B) log-probability, summed over merged alignments.
        tokens: (N, B, T) token ids, padded with blank.
        lens: (N, B) number of tokens.
        lm: (N, B, J) projected predictor output.
        state: predictor state of N * B rows.
    """

    scores: Tensor
    tokens: Tensor
    lens: Tensor
    lm: Tensor
    state: PredictorState


@torch.no_grad()
def modified_beam_search(model: Searchable, am: Tensor, lens: Tensor, beam: int = 4) -> list[list[int]]:
    """The most probable label sequence per token, at most one symbol per frame, for all utterances at once.

    The winner has the highest log-probability per symbol of its history, which includes the blanks that fill
    the predictor's context at the start (as in sherpa-onnx). ``beam=1`` is greedy search.

    Args:
        model: the transducer, in eval mode.
        am: (N, T, J) encoder output of the subnet, projected (`Transducer.project_encoder`).
        lens: (N,) int64, frames of it.
        beam: hypotheses kept per utterance.

    Returns:
        Token ids per utterance, without blank and ``<unk>``.
    """
    assert am.ndim == 3, am.shape
    assert lens.shape == am.shape[:1], lens.shape
    num_frames = int(lens.max())
    running = torch.arange(num_frames, device=am.device).unsqueeze(1) < lens.to(am.device)
    hyps = _start(model, len(am), beam, num_frames, am.device)
    for t in range(num_frames):
        hyps = _advance(model, hyps, am[:, t], running[t].unsqueeze(1))
    config = model.config.predictor
    context_size = config.context_size if config.kind == "stateless" else 1
    best = (hyps.scores / (hyps.lens + context_size)).argmax(1, keepdim=True)
    tokens = hyps.tokens.take_along_dim(best.unsqueeze(-1), 1).squeeze(1)
    return [row[row != model.blank_id].tolist() for row in tokens.cpu()]


def _start(model: Searchable, n: int, beam: int, num_frames: int, device: torch.device) -> _Beam:
    """One hypothesis without tokens per utterance."""
    scores = torch.full((n, beam), -torch.inf, device=device)
    scores[:, 0] = 0.0
    tokens = torch.full((n, beam, num_frames), model.blank_id, dtype=torch.int64, device=device)
    lens = torch.zeros((n, beam), dtype=torch.int64, device=device)
    state = model.predictor.init_state(n * beam, device)
    out, state = model.predictor.step(torch.full((n * beam,), model.blank_id, device=device), state)
    return _Beam(scores, tokens, lens, model.joiner.project_predictor(out).view(n, beam, -1), state)


def _advance(model: Searchable, hyps: _Beam, am: Tensor, running: Tensor) -> _Beam:
    """One frame: extend, keep the best ``B``, merge equals. ``running`` (N, 1): utterances not yet over."""
    n, beam = hyps.scores.shape
    log_probs = model.joiner(am.unsqueeze(1), hyps.lm).log_softmax(-1)
    scores, chosen = (hyps.scores.unsqueeze(-1) + log_probs).flatten(1).topk(beam)
    places = torch.arange(beam, device=am.device).expand(n, beam)
    scores = torch.where(running, scores, hyps.scores)
    parents = torch.where(running, chosen // model.vocab_size, places)
    symbols = torch.where(running, chosen % model.vocab_size, model.blank_id)
    symbols = symbols.masked_fill(symbols == UNK_ID, model.blank_id)
    emits = symbols != model.blank_id

    lens = hyps.lens.take_along_dim(parents, 1)
    tokens = hyps.tokens.take_along_dim(parents.unsqueeze(-1), 1)
    # Without emission, blank is written over padding; there is always a place: at most t tokens at frame t.
    tokens = tokens.scatter(2, lens.unsqueeze(-1), symbols.unsqueeze(-1))
    lens = lens + emits
    scores = _merge_equal(scores, tokens[..., : int(lens.max())])
    rows = (parents + beam * torch.arange(n, device=am.device).unsqueeze(1)).flatten()
    lm = hyps.lm.view(n * beam, -1)[rows]
    state = hyps.state.select(rows)
    lm, state = step_emitting(model, symbols.flatten(), (emits & (scores > -torch.inf)).flatten(), lm, state)
    return _Beam(scores, tokens, lens, lm.view(n, beam, -1), state)


def _merge_equal(scores: Tensor, tokens: Tensor) -> Tensor:
    """(N, B) scores in which the first of equal (N, B, L) token rows has them all, the others -inf."""
    same = (tokens.unsqueeze(2) == tokens.unsqueeze(1)).all(-1)
    merged = torch.where(same, scores.unsqueeze(1), -torch.inf).logsumexp(-1)
    first = same.int().argmax(-1) == torch.arange(scores.shape[1], device=scores.device)
    return torch.where(first, merged, -torch.inf)
