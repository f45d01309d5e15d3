"""Batched greedy search of a transducer.

With ``max_symbols_per_frame=1`` this is what sherpa-onnx runs on a device: each frame emits its best symbol, except
``<unk>``, which counts as blank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slimasr.decoding.searches.label_search import UNK_ID, Hypothesis, LabelSearch, search_whole
from slimasr.decoding.searches.searchable import SearchableTransducer
from slimasr.models.predictor import PredictorState


def greedy_search(
    model: SearchableTransducer, am: Tensor, lens: Tensor, max_symbols_per_frame: int = 1
) -> list[list[int]]:
    """Find the label sequence that takes the best symbol at every step, for all utterances at once.

    Args:
        model: the transducer, in eval mode.
        am: (N, T, J) encoder output of the subnet, projected (`Transducer.project_encoder`).
        lens: (N,) int64, number of frames.
        max_symbols_per_frame: the search moves to the next frame after so many symbols.

    Returns:
        Token ids per utterance, without blank and ``<unk>``.
    """
    search = GreedySearch(model, max_symbols_per_frame)
    return [list(hypothesis.tokens) for hypothesis in search_whole(search, am, lens)]


@dataclass(frozen=True)
class GreedyState:
    """The state of ``n`` streams.

    Attributes:
        seen: (n,) int64, frames searched so far; on the CPU.
        lm: (n, J) projected predictor output.
        predictor: predictor state of n hypotheses.
    """

    seen: Tensor
    lm: Tensor
    predictor: PredictorState


@dataclass(frozen=True)
class GreedySearch(LabelSearch[GreedyState]):
    """Takes the best symbol at every step, which is settled at once.

    Attributes:
        model: the transducer, in eval mode.
        max_symbols_per_frame: the search moves to the next frame after so many symbols.
    """

    model: SearchableTransducer
    max_symbols_per_frame: int = 1

    def start(self, n: int, device: torch.device) -> GreedyState:
        lm, predictor = start_predictor(self.model, n, device)
        return GreedyState(torch.zeros(n, dtype=torch.int64), lm, predictor)

    @torch.no_grad()
    def advance(self, state: GreedyState, am: Tensor, lens: Tensor) -> tuple[list[Hypothesis], GreedyState]:
        # The only loops are over frames and over symbols within a frame; the predictor runs only when some utterance
        # emitted, and then for those utterances alone.
        running = running_frames(am, lens)
        blank = torch.full(am.shape[:1], self.model.blank_id, dtype=torch.int64, device=am.device)
        lm = state.lm
        predictor = state.predictor
        # For every step in which any utterance emitted: its frame, and an (n,) tensor that has blank for the others.
        frames: list[int] = []
        emitted_symbols: list[Tensor] = []
        for t in range(am.shape[1]):
            emits = running[t]
            for _ in range(self.max_symbols_per_frame):
                symbols = self.model.joiner(am[:, t], lm).argmax(-1)
                # An utterance that has not emitted at one step of a frame does not emit at the later ones either.
                emits = emits & (symbols != self.model.blank_id) & (symbols != UNK_ID)
                if not emits.any():
                    break
                frames.append(t)
                emitted_symbols.append(symbols.where(emits, blank))
                lm, predictor = step_emitting(self.model, symbols, emits, lm, predictor)
        found = _by_stream(emitted_symbols, frames, state.seen, self.model.blank_id)
        return found, GreedyState(state.seen + lens.cpu(), lm, predictor)

    def finish(self, state: GreedyState) -> list[Hypothesis]:
        return [Hypothesis()] * len(state.seen)

    def select(self, state: GreedyState, rows: Sequence[int]) -> GreedyState:
        index = torch.tensor(list(rows), dtype=torch.int64)
        there = index.to(state.lm.device)
        return GreedyState(state.seen[index], state.lm[there], state.predictor.select(there))

    def stack(self, states: Sequence[GreedyState]) -> GreedyState:
        seen = torch.cat([state.seen for state in states])
        lm = torch.cat([state.lm for state in states])
        return GreedyState(seen, lm, PredictorState.stack([state.predictor for state in states]))


def _by_stream(steps: Sequence[Tensor], frames: Sequence[int], seen: Tensor, blank_id: int) -> list[Hypothesis]:
    """Return the labels of every stream.

    Args:
        steps: (n,) symbols of each step.
        frames: the frame of each step.
        seen: (n,) frames before the first of these.
    """
    if not steps:
        return [Hypothesis()] * len(seen)
    # (n, steps), moved to the CPU once instead of step by step
    symbols = torch.stack(list(steps), dim=1).cpu()
    times = seen.unsqueeze(1) + torch.tensor(frames)
    rows = zip(symbols, times, symbols != blank_id, strict=True)
    return [Hypothesis(tuple(row[emits].tolist()), tuple(when[emits].tolist())) for row, when, emits in rows]


def running_frames(am: Tensor, lens: Tensor) -> Tensor:
    """(N, T, J) and (N,) lengths -> (T, N): whether an utterance still has audio at a frame."""
    return torch.arange(am.shape[1], device=am.device).unsqueeze(1) < lens.to(am.device)


def start_predictor(model: SearchableTransducer, n: int, device: torch.device) -> tuple[Tensor, PredictorState]:
    """Return the (n, J) projected predictor output before any label, and the predictor's state."""
    blank = torch.full((n,), model.blank_id, dtype=torch.int64, device=device)
    with torch.no_grad():
        out, state = model.predictor.step(blank, model.predictor.init_state(n, device))
        return model.joiner.project_predictor(out), state


def step_emitting(
    model: SearchableTransducer, symbols: Tensor, emits: Tensor, lm: Tensor, state: PredictorState
) -> tuple[Tensor, PredictorState]:
    """Feed the predictor the symbols of the hypotheses that emitted one; the others keep output and state.

    Args:
        model: the transducer.
        symbols: (n,) token ids.
        emits: (n,) bool, the hypotheses whose symbol is fed.
        lm: (n, J) projected predictor output so far.
        state: predictor state of n hypotheses.

    Returns:
        The next ``lm`` and ``state``.
    """
    rows = emits.nonzero().squeeze(1)
    if not len(rows):
        return lm, state
    # Emission is rare, so most rows are left out of the predictor's batch.
    out, stepped = model.predictor.step(symbols[rows], state.select(rows))
    pairs = zip(state.tensors, stepped.tensors, strict=True)
    state = PredictorState(tuple(old.index_copy(0, rows, new) for old, new in pairs))
    return lm.index_copy(0, rows, model.joiner.project_predictor(out)), state
