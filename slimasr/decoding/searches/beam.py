"""Batched modified beam search of a transducer.

"Modified" as in k2, icefall and sherpa-onnx: every hypothesis takes exactly one symbol per frame (blank or
a token), so all of them are at the same frame, and hypotheses with equal token sequences are merged by adding
their probabilities. ``<unk>`` counts as blank.

Two hypotheses that differ in a single early token may both stay among the best for minutes, because a predictor that
sees few labels scores all that follows equally. So the work of a frame must not depend on the length of hypotheses:
their tokens are chains of links that share their starts, and equality is that of 64-bit digests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slimasr.decoding.searches.greedy import running_frames, start_predictor, step_emitting
from slimasr.decoding.searches.label_search import UNK_ID, Hypothesis, LabelSearch, search_whole
from slimasr.decoding.searches.links import Chain, Link, labels, settle
from slimasr.decoding.searches.searchable import SearchableTransducer
from slimasr.models.predictor import PredictorState

_FIRST_DIGEST = 0x2545F4914F6CDD1D
_FACTOR = 0x5851F42D4C957F2D
"""An odd number below 2^63; products wrap around at 64 bits."""


def modified_beam_search(model: SearchableTransducer, am: Tensor, lens: Tensor, beam: int = 4) -> list[list[int]]:
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
    return [list(hypothesis.tokens) for hypothesis in search_whole(BeamSearch(model, beam), am, lens)]


@dataclass(frozen=True)
class _Beam:
    """N streams with B hypotheses each, unsorted; a slot with a score of -inf is empty.

    Attributes:
        scores: (N, B) log-probability, summed over merged alignments.
        lens: (N, B) number of tokens.
        digests: (N, B) int64 digests of the tokens.
        lm: (N, B, J) projected predictor output.
        predictor: predictor state of N * B hypotheses, those of one stream next to each other.
    """

    scores: Tensor
    lens: Tensor
    digests: Tensor
    lm: Tensor
    predictor: PredictorState


@dataclass(frozen=True)
class BeamState:
    """The state of ``n`` streams.

    Attributes:
        seen: (n,) int64, frames searched so far; on the CPU.
        beam: their hypotheses.
        chains: for each stream, the tokens of each hypothesis behind those that have been handed out.
        kept: for each stream, the length of the longest of these chains when it was last examined for a common start.
    """

    seen: Tensor
    beam: _Beam
    chains: tuple[tuple[Chain, ...], ...]
    kept: tuple[int, ...]


@dataclass(frozen=True)
class BeamSearch(LabelSearch[BeamState]):
    """Keeps the best hypotheses at every frame. Tokens are settled once all hypotheses share their links.

    Attributes:
        model: the transducer, in eval mode.
        beam: number of hypotheses kept per stream.
        context_size: blanks at the start of a history, which count as symbols; None = those of the model, where an
            LSTM, which sees no fixed number of labels, gets one.
    """

    model: SearchableTransducer
    beam: int = 4
    context_size: int | None = None

    def start(self, n: int, device: torch.device) -> BeamState:
        # One hypothesis without tokens per stream; the other slots are empty.
        scores = torch.full((n, self.beam), -torch.inf, device=device)
        scores[:, 0] = 0.0
        zeros = torch.zeros((n, self.beam), dtype=torch.int64, device=device)
        lm, predictor = start_predictor(self.model, n * self.beam, device)
        hyps = _Beam(scores, zeros, zeros + _FIRST_DIGEST, lm.view(n, self.beam, -1), predictor)
        chains: tuple[Chain, ...] = (None,) * self.beam
        return BeamState(torch.zeros(n, dtype=torch.int64), hyps, (chains,) * n, (0,) * n)

    @torch.no_grad()
    def advance(self, state: BeamState, am: Tensor, lens: Tensor) -> tuple[list[Hypothesis], BeamState]:
        running = running_frames(am, lens)
        hyps = state.beam
        # For every frame, the hypothesis that each slot extends, and by which symbol.
        parents: list[Tensor] = []
        symbols: list[Tensor] = []
        for t in range(am.shape[1]):
            hyps, of_slots, by = _advance(self.model, hyps, am[:, t], running[t].unsqueeze(1))
            parents.append(of_slots)
            symbols.append(by)
        seen = state.seen + lens.cpu()
        if not parents:
            return [Hypothesis()] * len(seen), state
        # (N, T, B), moved to the CPU once instead of frame by frame
        steps = zip(torch.stack(parents, dim=1).tolist(), torch.stack(symbols, dim=1).tolist(), strict=True)
        alive = (hyps.scores > -torch.inf).tolist()
        found: list[Hypothesis] = []
        chains: list[tuple[Chain, ...]] = []
        kept: list[int] = []
        for row, (of_row, by_row) in enumerate(steps):
            first = int(state.seen[row])
            extended = _extended(state.chains[row], of_row, by_row, first, self.model.blank_id)
            settled, left, longest = settle(extended, alive[row], state.kept[row])
            found.append(settled)
            chains.append(left)
            kept.append(longest)
        return found, BeamState(seen, hyps, tuple(chains), tuple(kept))

    @torch.no_grad()
    def finish(self, state: BeamState) -> list[Hypothesis]:
        context_size = self.context_size
        if context_size is None:
            config = self.model.config.predictor
            context_size = config.context_size if config.kind == "stateless" else 1
        best = (state.beam.scores / (state.beam.lens + context_size)).argmax(1).tolist()
        return [labels(chains[slot]) for chains, slot in zip(state.chains, best, strict=True)]

    def select(self, state: BeamState, rows: Sequence[int]) -> BeamState:
        index = torch.tensor(list(rows), dtype=torch.int64)
        hyps = state.beam
        there = index.to(hyps.lm.device)
        slots = torch.arange(self.beam, device=there.device)
        # Predictor rows are numbered over all streams: hypothesis b of stream n is row n * B + b.
        predictor = hyps.predictor.select((there.unsqueeze(1) * self.beam + slots).flatten())
        chosen = _Beam(hyps.scores[there], hyps.lens[there], hyps.digests[there], hyps.lm[there], predictor)
        chains = tuple(state.chains[row] for row in rows)
        return BeamState(state.seen[index], chosen, chains, tuple(state.kept[row] for row in rows))

    def stack(self, states: Sequence[BeamState]) -> BeamState:
        hyps = [state.beam for state in states]
        together = _Beam(
            scores=torch.cat([of_state.scores for of_state in hyps]),
            lens=torch.cat([of_state.lens for of_state in hyps]),
            digests=torch.cat([of_state.digests for of_state in hyps]),
            lm=torch.cat([of_state.lm for of_state in hyps]),
            predictor=PredictorState.stack([of_state.predictor for of_state in hyps]),
        )
        chains = tuple(chains for state in states for chains in state.chains)
        kept = tuple(length for state in states for length in state.kept)
        return BeamState(torch.cat([state.seen for state in states]), together, chains, kept)


def _advance(model: SearchableTransducer, hyps: _Beam, am: Tensor, running: Tensor) -> tuple[_Beam, Tensor, Tensor]:
    """Advance by one frame: extend the hypotheses, keep the best B, and merge those with equal tokens.

    Args:
        model: the transducer.
        hyps: the hypotheses so far.
        am: (N, J) projected encoder output of the frame.
        running: (N, 1) bool, the streams that still have audio; the others keep their hypotheses.

    Returns:
        The hypotheses; (N, B) the slot of the hypothesis that each of them extends; (N, B) the symbol that it adds.
    """
    n, beam = hyps.scores.shape
    # (N, 1, J) and (N, B, J) -> (N, B, V)
    log_probs = model.joiner(am.unsqueeze(1), hyps.lm).log_softmax(-1)
    # The best B of all B * V extensions of a stream: extension b * V + v adds symbol v to hypothesis b.
    extended = hyps.scores.unsqueeze(-1) + log_probs
    scores, chosen = extended.flatten(1).topk(beam)
    # A stream without audio keeps every hypothesis in its slot.
    slots = torch.arange(beam, device=am.device).expand(n, beam)
    scores = torch.where(running, scores, hyps.scores)
    parents = torch.where(running, chosen // model.vocab_size, slots)
    symbols = torch.where(running, chosen % model.vocab_size, model.blank_id)
    # The score keeps the probability of <unk>.
    symbols = symbols.masked_fill(symbols == UNK_ID, model.blank_id)
    emits = symbols != model.blank_id

    lens = hyps.lens.take_along_dim(parents, 1) + emits
    before = hyps.digests.take_along_dim(parents, 1)
    digests = torch.where(emits, _digest(before, symbols), before)
    scores = _merge_equal(scores, digests, lens)
    # Predictor rows are numbered over all streams: hypothesis b of stream n is row n * B + b.
    rows = (parents + beam * torch.arange(n, device=am.device).unsqueeze(1)).flatten()
    lm = hyps.lm.view(n * beam, -1)[rows]
    predictor = hyps.predictor.select(rows)
    # Hypotheses that were merged into another one are empty now, so the predictor need not run for them.
    steps = emits & (scores > -torch.inf)
    lm, predictor = step_emitting(model, symbols.flatten(), steps.flatten(), lm, predictor)
    return _Beam(scores, lens, digests, lm.view(n, beam, -1), predictor), parents, symbols


def _digest(before: Tensor, symbols: Tensor) -> Tensor:
    """Return int64 digests of tokens with one symbol more; two different ones are equal in one of 2^64 cases."""
    # The shift makes the digest nonlinear, since a polynomial of the tokens has collisions of known form.
    mixed = before ^ (before >> 29)
    return (mixed + symbols + 1) * _FACTOR


def _merge_equal(scores: Tensor, digests: Tensor, lens: Tensor) -> Tensor:
    """Add up the probabilities of hypotheses with equal tokens.

    Args:
        scores: (N, B) log-probabilities.
        digests: (N, B) digests of the tokens.
        lens: (N, B) numbers of tokens.

    Returns:
        (N, B) scores: the first of equal hypotheses has the sum, the others have -inf.
    """
    # (N, B, B): whether two hypotheses are equal
    same = (digests.unsqueeze(2) == digests.unsqueeze(1)) & (lens.unsqueeze(2) == lens.unsqueeze(1))
    # A row of -inf alone, which empty slots have, stays -inf under logsumexp.
    merged = torch.where(same, scores.unsqueeze(1), -torch.inf).logsumexp(-1)
    # argmax returns the first True of a row: the first hypothesis that equals this one.
    first = same.int().argmax(-1) == torch.arange(scores.shape[1], device=scores.device)
    return torch.where(first, merged, -torch.inf)


def _extended(
    chains: Sequence[Chain], parents: Sequence[Sequence[int]], symbols: Sequence[Sequence[int]], first: int, blank: int
) -> list[Chain]:
    """Return the chains of one stream after some frames.

    Args:
        chains: of its B hypotheses.
        parents: for every frame, the hypothesis that each slot extends.
        symbols: for every frame, the symbol that it adds.
        first: number of the first of these frames.
        blank: the symbol that adds nothing.
    """
    current = list(chains)
    for frame, (of_slots, by) in enumerate(zip(parents, symbols, strict=True), first):
        current = [
            current[slot] if symbol == blank else Link(current[slot], symbol, frame)
            for slot, symbol in zip(of_slots, by, strict=True)
        ]
    return current
