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
    """N utterances with B hypotheses each, unsorted; a slot with a score of -inf is empty.

    Attributes:
        scores: (N, B) log-probability, summed over merged alignments.
        tokens: (N, B, T) token ids, padded with blank.
        lens: (N, B) number of tokens.
        lm: (N, B, J) projected predictor output.
        state: predictor state of N * B hypotheses, those of one utterance next to each other.
    """

    scores: Tensor
    tokens: Tensor
    lens: Tensor
    lm: Tensor
    state: PredictorState


@torch.no_grad()
def modified_beam_search(model: Searchable, am: Tensor, lens: Tensor, beam: int = 4) -> list[list[int]]:
    """Find the label sequence of the best hypothesis of every utterance, with at most one symbol per frame.

    The winner has the highest log-probability per symbol of its history, which includes the blanks that fill
    the predictor's context at the start (as in sherpa-onnx). ``beam=1`` is greedy search.

    Args:
        model: the transducer, in eval mode.
        am: (N, T, J) encoder output of the subnet, projected (`Transducer.project_encoder`).
        lens: (N,) int64, number of frames.
        beam: number of hypotheses kept per utterance.

    Returns:
        Token ids per utterance, without blank and ``<unk>``.
    """
    assert am.ndim == 3, am.shape
    assert lens.shape == am.shape[:1], lens.shape
    num_frames = int(lens.max())
    # (T, N): whether an utterance still has audio at a frame
    running = torch.arange(num_frames, device=am.device).unsqueeze(1) < lens.to(am.device)
    hyps = _start(model, len(am), beam, num_frames, am.device)
    for t in range(num_frames):
        hyps = _advance(model, hyps, am[:, t], running[t].unsqueeze(1))
    config = model.config.predictor
    # The blanks at the start of a history count as symbols. An LSTM, which sees no fixed number of labels, gets one.
    context_size = config.context_size if config.kind == "stateless" else 1
    best = (hyps.scores / (hyps.lens + context_size)).argmax(1, keepdim=True)
    # (N, B, T) at the winner of each utterance -> (N, T)
    tokens = hyps.tokens.take_along_dim(best.unsqueeze(-1), 1).squeeze(1)
    return [row[row != model.blank_id].tolist() for row in tokens.cpu()]


def _start(model: Searchable, n: int, beam: int, num_frames: int, device: torch.device) -> _Beam:
    """Begin with one hypothesis without tokens per utterance; the other slots are empty."""
    scores = torch.full((n, beam), -torch.inf, device=device)
    scores[:, 0] = 0.0
    tokens = torch.full((n, beam, num_frames), model.blank_id, dtype=torch.int64, device=device)
    lens = torch.zeros((n, beam), dtype=torch.int64, device=device)
    state = model.predictor.init_state(n * beam, device)
    out, state = model.predictor.step(torch.full((n * beam,), model.blank_id, device=device), state)
    lm = model.joiner.project_predictor(out).view(n, beam, -1)
    return _Beam(scores, tokens, lens, lm, state)


def _advance(model: Searchable, hyps: _Beam, am: Tensor, running: Tensor) -> _Beam:
    """Advance by one frame: extend the hypotheses, keep the best B, and merge those with equal tokens.

    Args:
        model: the transducer.
        hyps: the hypotheses so far.
        am: (N, J) projected encoder output of the frame.
        running: (N, 1) bool, the utterances that still have audio; the others keep their hypotheses.
    """
    n, beam = hyps.scores.shape
    # (N, 1, J) and (N, B, J) -> (N, B, V)
    log_probs = model.joiner(am.unsqueeze(1), hyps.lm).log_softmax(-1)
    # The best B of all B * V extensions of an utterance: extension b * V + v adds symbol v to hypothesis b.
    extended = hyps.scores.unsqueeze(-1) + log_probs
    scores, chosen = extended.flatten(1).topk(beam)
    # An utterance without audio keeps every hypothesis in its slot.
    slots = torch.arange(beam, device=am.device).expand(n, beam)
    scores = torch.where(running, scores, hyps.scores)
    parents = torch.where(running, chosen // model.vocab_size, slots)
    symbols = torch.where(running, chosen % model.vocab_size, model.blank_id)
    # The score keeps the probability of <unk>.
    symbols = symbols.masked_fill(symbols == UNK_ID, model.blank_id)
    emits = symbols != model.blank_id

    lens = hyps.lens.take_along_dim(parents, 1)
    tokens = hyps.tokens.take_along_dim(parents.unsqueeze(-1), 1)
    # The new symbol goes after the last token; a blank overwrites padding, which is blank too. The index is always
    # valid, because a hypothesis has at most t tokens before frame t.
    tokens = tokens.scatter(2, lens.unsqueeze(-1), symbols.unsqueeze(-1))
    lens = lens + emits
    # Comparing the padding beyond the longest hypothesis would only take time.
    scores = _merge_equal(scores, tokens[..., : int(lens.max())])
    # Predictor rows are numbered over all utterances: hypothesis b of utterance n is row n * B + b.
    rows = (parents + beam * torch.arange(n, device=am.device).unsqueeze(1)).flatten()
    lm = hyps.lm.view(n * beam, -1)[rows]
    state = hyps.state.select(rows)
    # Hypotheses that were merged into another one are empty now, so the predictor need not run for them.
    steps = emits & (scores > -torch.inf)
    lm, state = step_emitting(model, symbols.flatten(), steps.flatten(), lm, state)
    return _Beam(scores, tokens, lens, lm.view(n, beam, -1), state)


def _merge_equal(scores: Tensor, tokens: Tensor) -> Tensor:
    """Add up the probabilities of hypotheses with equal tokens.

    Args:
        scores: (N, B) log-probabilities.
        tokens: (N, B, L) token ids, padded with blank.

    Returns:
        (N, B) scores: the first of equal hypotheses has the sum, the others have -inf.
    """
    # (N, B, B): whether two hypotheses are equal
    same = (tokens.unsqueeze(2) == tokens.unsqueeze(1)).all(-1)
    # A row of -inf alone, which empty slots have, stays -inf under logsumexp.
    merged = torch.where(same, scores.unsqueeze(1), -torch.inf).logsumexp(-1)
    # argmax returns the first True of a row: the first hypothesis that equals this one.
    first = same.int().argmax(-1) == torch.arange(scores.shape[1], device=scores.device)
    return torch.where(first, merged, -torch.inf)
