"""Oracles for the transducer losses: plain float64 loops over frames and symbols, with autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

Arc = tuple[int, int, Tensor]  # frame and position it leads to, score
Oracle = Callable[..., Tensor]


def _arcs(
    log_probs: Tensor,
    symbols: list[int],
    blank: int,
    rnnt_type: str,
    delay_penalty: float,
    kept: set[tuple[int, int]] | None,
) -> Callable[[int, int], list[Arc]]:
    """What leaves a node (t, u) of one utterance's lattice, given (T, U + 1, C) log-probabilities."""
    num_frames = log_probs.shape[0]

    def is_kept(t: int, u: int) -> bool:
        return kept is None or (t, u) in kept

    def leave(t: int, u: int) -> list[Arc]:
        if t == num_frames or not is_kept(t, u):
            return []
        arcs = [(t + 1, u, log_probs[t, u, blank])]
        if u < len(symbols):
            score = log_probs[t, u, symbols[u]] + delay_penalty * ((num_frames - 1) / 2 - t)
            if rnnt_type == "regular":
                arcs.append((t, u + 1, score))
            elif rnnt_type == "modified":
                arcs.append((t + 1, u + 1, score))
            elif is_kept(t, u + 1):
                arcs.append((t + 1, u + 1, score + log_probs[t, u + 1, blank]))
        return arcs

    return leave


@pytest.fixture(scope="session")
def enumerated_loss() -> Oracle:
    """Loss of one utterance: the probability of every single alignment, added up."""

    def loss(
        logits: Tensor,
        symbols: list[int],
        blank: int = 0,
        rnnt_type: str = "regular",
        delay_penalty: float = 0.0,
        kept: set[tuple[int, int]] | None = None,
    ) -> Tensor:
        leave = _arcs(logits.log_softmax(dim=-1), symbols, blank, rnnt_type, delay_penalty, kept)

        def alignments(t: int, u: int, score: Tensor) -> Iterator[Tensor]:
            if (t, u) == (logits.shape[0], len(symbols)):
                yield score
            for next_t, next_u, arc in leave(t, u):
                yield from alignments(next_t, next_u, score + arc)

        scores = list(alignments(0, 0, logits.new_zeros(())))
        return -torch.stack(scores).exp().sum().log() if scores else logits.new_tensor(float("inf"))

    return loss


@pytest.fixture(scope="session")
def recursive_loss() -> Oracle:
    """Loss of one utterance: the forward recursion, one node after the other."""

    def loss(
        logits: Tensor,
        symbols: list[int],
        blank: int = 0,
        rnnt_type: str = "regular",
        delay_penalty: float = 0.0,
        kept: set[tuple[int, int]] | None = None,
    ) -> Tensor:
        leave = _arcs(logits.log_softmax(dim=-1), symbols, blank, rnnt_type, delay_penalty, kept)
        incoming: dict[tuple[int, int], list[Tensor]] = {(0, 0): [logits.new_zeros(())]}
        for t in range(logits.shape[0] + 1):
            for u in range(len(symbols) + 1):
                if (t, u) not in incoming:
                    continue
                alpha = torch.stack(incoming[t, u]).logsumexp(dim=0)
                if (t, u) == (logits.shape[0], len(symbols)):
                    return -alpha
                for next_t, next_u, arc in leave(t, u):
                    incoming.setdefault((next_t, next_u), []).append(alpha + arc)
        return logits.new_tensor(float("inf"))

    return loss
