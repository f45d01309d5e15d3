"""The best path of a CTC head: which label each frame emits, or none."""

from __future__ import annotations

import torch
from torch import Tensor

NO_LABEL = -1
"""Entry of an alignment for frames that emit blank, and for padding."""


@torch.no_grad()
def ctc_best_path(logits: Tensor, x_lens: Tensor, y: Tensor, y_lens: Tensor, blank: int = 0) -> tuple[Tensor, Tensor]:
    """Align labels with frames by the most probable path (Viterbi) of a CTC head (Graves et al. 2006).

    The frames of a label are contiguous, and repeated labels are separated by at least one blank.

    Args:
        logits: (N, T, V) unnormalised scores, computed in float32 (float64 for float64 input).
        x_lens, y, y_lens, blank: see `best_label_path`.
    """
    scores = logits if logits.dtype == torch.float64 else logits.float()
    return best_label_path(scores.log_softmax(dim=-1), x_lens, y, y_lens, blank)


@torch.no_grad()
def best_label_path(scores: Tensor, x_lens: Tensor, y: Tensor, y_lens: Tensor, blank: int = 0) -> tuple[Tensor, Tensor]:
    """Align labels with frames by the path of the highest sum of scores.

    There may be blanks before, between and behind labels; between repeated labels there is at least one.

    Args:
        scores: (N, T, V) scores, which need not be normalised.
        x_lens: (N,) frames of each utterance, at most T.
        y: (N, U) labels, padded with any value; labels must not be ``blank``.
        y_lens: (N,) labels of each utterance, at most U; 0 is allowed.
        blank: index of the blank unit.

    Returns:
        (N, T) int64, the position from 0 to U - 1 of the label that a frame emits, `NO_LABEL` for blank and padding.
        (N,) scores of the paths in nats; ``-inf`` for an utterance without any path, all of whose frames emit blank.
    """
    assert scores.ndim == 3, scores.shape
    num_utterances, num_frames, _ = scores.shape
    assert y.shape[0] == num_utterances, (scores.shape, y.shape)
    assert x_lens.shape == y_lens.shape == (num_utterances,), (x_lens.shape, y_lens.shape)
    x_lens = x_lens.to(scores.device)
    y_lens = y_lens.to(scores.device)
    states = _states(y, y_lens, blank)
    # (N, T, 2U + 1) scores of the states at every frame
    emitted = scores.gather(2, states.unsqueeze(1).expand(-1, num_frames, -1))
    best, steps = _forward(emitted, _may_skip(states, blank), x_lens)
    return _trace_back(best, steps, x_lens, y_lens)


def _states(y: Tensor, y_lens: Tensor, blank: int) -> Tensor:
    """Return the (N, 2U + 1) units of the states: a blank before, between and behind the labels."""
    labels = y.masked_fill(torch.arange(y.shape[1], device=y.device) >= y_lens.unsqueeze(1), blank)
    states = y.new_full((y.shape[0], 2 * y.shape[1] + 1), blank)
    states[:, 1::2] = labels
    return states


def _may_skip(states: Tensor, blank: int) -> Tensor:
    """Return which states (N, 2U + 1) can follow the one before the last: labels that differ from the label before."""
    skips = torch.zeros_like(states, dtype=torch.bool)
    skips[:, 2:] = (states[:, 2:] != blank) & (states[:, 2:] != states[:, :-2])
    return skips


def _forward(emitted: Tensor, may_skip: Tensor, x_lens: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Find the best path into every state.

    Args:
        emitted: (N, T, S) scores of the states at every frame.
        may_skip: (N, S) see `_may_skip`.
        x_lens: (N,) frames.

    Returns:
        (N, S) scores of the best paths that end in each state at the last frame of each utterance. For each frame but
        the first, (N, S) int64: how many states the best path into a state has advanced, 0 to 2.
    """
    minus_infinity = float("-inf")
    best = torch.full_like(emitted[:, 0], minus_infinity)
    # A path begins with the first blank or the first label.
    best[:, :2] = emitted[:, 0, :2]
    # An utterance without frames has no path, unless it has no label either.
    best = best.masked_fill((x_lens == 0).unsqueeze(1), minus_infinity)
    best[:, 0] = best[:, 0].masked_fill(x_lens == 0, 0.0)
    steps = []
    for frame in range(1, emitted.shape[1]):
        by_one = torch.nn.functional.pad(best[:, :-1], (1, 0), value=minus_infinity)
        by_two = torch.nn.functional.pad(by_one[:, :-1], (1, 0), value=minus_infinity)
        ways = torch.stack([best, by_one, by_two.masked_fill(~may_skip, minus_infinity)])
        reached, step = ways.max(dim=0)
        # Behind its end, an utterance stays where it is, so that all of them end at the last frame of the batch.
        inside = (frame < x_lens).unsqueeze(1)
        best = torch.where(inside, reached + emitted[:, frame], best)
        steps.append(step.masked_fill(~inside, 0))
    return best, steps


def _trace_back(best: Tensor, steps: list[Tensor], x_lens: Tensor, y_lens: Tensor) -> tuple[Tensor, Tensor]:
    """Follow the best paths back from their ends; arguments as in `_forward`, result as in `ctc_best_path`."""
    # A path ends with the last label or with the blank behind it.
    last_blank = (2 * y_lens).unsqueeze(1)
    last_label = (last_blank - 1).clamp(min=0)
    ends = torch.cat([last_blank, last_label], dim=1)
    scores, which = best.gather(1, ends).max(dim=1)
    state = ends.gather(1, which.unsqueeze(1))
    path = [state]
    for step in reversed(steps):
        state = state - step.gather(1, state)
        path.append(state)
    states = torch.cat(path[::-1], dim=1)
    # Odd states are labels.
    labels = torch.where(states % 2 == 1, states // 2, NO_LABEL)
    outside = torch.arange(labels.shape[1], device=labels.device) >= x_lens.unsqueeze(1)
    missing = (scores == float("-inf")).unsqueeze(1)
    return labels.masked_fill(outside | missing, NO_LABEL), scores
