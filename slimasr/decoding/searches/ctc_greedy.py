"""Greedy search of a CTC model: the best label of every frame, repetitions merged, blanks removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slimasr.decoding.searches.label_search import UNK_ID, Hypothesis, LabelSearch


@dataclass(frozen=True)
class CtcGreedyState:
    """The state of ``n`` streams.

    Attributes:
        seen: (n,) int64, frames searched so far; on the CPU.
        last: (n,) int64, best label of the last frame, blank before the first one; on the CPU.
    """

    seen: Tensor
    last: Tensor


@dataclass(frozen=True)
class CtcGreedySearch(LabelSearch[CtcGreedyState]):
    """Takes the best label of every frame (Graves et al. 2006); a label is settled at the first frame of its run.

    It reads (n, T, V) scores of labels, in place of the projected encoder output of a transducer.

    Attributes:
        blank_id: the label of frames without a token.
    """

    blank_id: int = 0

    def start(self, n: int, device: torch.device) -> CtcGreedyState:
        zeros = torch.zeros(n, dtype=torch.int64)
        return CtcGreedyState(zeros, zeros + self.blank_id)

    @torch.no_grad()
    def advance(self, state: CtcGreedyState, am: Tensor, lens: Tensor) -> tuple[list[Hypothesis], CtcGreedyState]:
        lens = lens.cpu()
        best = am.argmax(-1).cpu()
        # (n, T + 1), the best label of the frame before each frame, and of the last one
        before = torch.cat([state.last.unsqueeze(1), best], dim=1)
        inside = torch.arange(best.shape[1]) < lens.unsqueeze(1)
        # ``<unk>`` is no token of a text, but it separates two runs of a label as any other label does.
        emits = inside & (best != before[:, :-1]) & (best != self.blank_id) & (best != UNK_ID)
        times = state.seen.unsqueeze(1) + torch.arange(best.shape[1])
        rows = zip(best, times, emits, strict=True)
        found = [Hypothesis(tuple(row[new].tolist()), tuple(when[new].tolist())) for row, when, new in rows]
        last = before.gather(1, lens.unsqueeze(1)).squeeze(1)
        return found, CtcGreedyState(state.seen + lens, last)

    def finish(self, state: CtcGreedyState) -> list[Hypothesis]:
        return [Hypothesis()] * len(state.seen)

    def select(self, state: CtcGreedyState, rows: Sequence[int]) -> CtcGreedyState:
        index = torch.tensor(list(rows), dtype=torch.int64)
        return CtcGreedyState(state.seen[index], state.last[index])

    def stack(self, states: Sequence[CtcGreedyState]) -> CtcGreedyState:
        seen = torch.cat([state.seen for state in states])
        return CtcGreedyState(seen, torch.cat([state.last for state in states]))
