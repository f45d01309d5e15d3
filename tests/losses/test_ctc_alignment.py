"""The best path of a CTC head, against all paths of small cases and against the CTC loss."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from slimasr.losses.ctc import ctc_loss
from slimasr.losses.ctc_alignment import NO_LABEL, best_label_path, ctc_best_path

VOCAB_SIZE = 4


def collapse(units: tuple[int, ...]) -> list[int]:
    """The labels of a path: repetitions merged, blanks (0) removed."""
    return [unit for unit, _ in itertools.groupby(units) if unit != 0]


def best_score(log_probs: Tensor, labels: list[int]) -> float:
    """The score of the best of all paths of one utterance, by enumeration; -inf if none has these labels."""
    scores = [
        sum(float(log_probs[frame, unit]) for frame, unit in enumerate(units))
        for units in itertools.product(range(log_probs.shape[1]), repeat=log_probs.shape[0])
        if collapse(units) == labels
    ]
    return max(scores, default=-math.inf)


def units_of(path: Tensor, labels: list[int]) -> tuple[int, ...]:
    """The unit of each frame, from the positions of labels."""
    return tuple(0 if position == NO_LABEL else labels[position] for position in path.tolist())


@pytest.mark.parametrize("seed", range(40))
def test_the_path_is_the_best_of_all_paths(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    frames = int(torch.randint(1, 6, (1,), generator=generator))
    count = int(torch.randint(0, 4, (1,), generator=generator))
    logits = torch.randn(1, frames, VOCAB_SIZE, generator=generator, dtype=torch.float64)
    y = torch.randint(1, VOCAB_SIZE, (1, count), generator=generator)
    path, scores = ctc_best_path(logits, torch.tensor([frames]), y, torch.tensor([count]))
    log_probs, labels = logits[0].log_softmax(-1), y[0].tolist()
    assert float(scores) == pytest.approx(best_score(log_probs, labels), abs=1e-12)
    if float(scores) == -math.inf:
        assert path.eq(NO_LABEL).all()
        return
    units = units_of(path[0], labels)
    assert collapse(units) == labels
    assert sum(float(log_probs[frame, unit]) for frame, unit in enumerate(units)) == pytest.approx(float(scores))
    # Each label has frames, in the order of the labels.
    positions = [position for position, _ in itertools.groupby(path[0].tolist()) if position != NO_LABEL]
    assert positions == list(range(count))


def test_a_padded_batch_equals_its_utterances() -> None:
    generator = torch.Generator().manual_seed(1)
    lens, counts = [7, 3, 5, 1], [3, 1, 0, 1]
    logits = torch.randn(4, 7, 6, generator=generator)
    y = torch.randint(1, 6, (4, 3), generator=generator)
    path, scores = ctc_best_path(logits, torch.tensor(lens), y, torch.tensor(counts))
    for row, (frames, count) in enumerate(zip(lens, counts, strict=True)):
        alone, score = ctc_best_path(
            logits[row : row + 1, :frames], torch.tensor([frames]), y[row : row + 1, :count], torch.tensor([count])
        )
        assert torch.equal(path[row, :frames], alone[0])
        assert path[row, frames:].eq(NO_LABEL).all()
        assert float(scores[row]) == float(score)


def test_the_best_path_is_at_most_the_sum_of_all() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(3, 40, 12, generator=generator, dtype=torch.float64)
    y = torch.randint(1, 12, (3, 9), generator=generator)
    x_lens, y_lens = torch.tensor([40, 31, 25]), torch.tensor([9, 7, 8])
    _, scores = ctc_best_path(logits, x_lens, y, y_lens)
    total = -ctc_loss(logits, x_lens, y, y_lens)
    assert (scores < total).all()
    # Sharp distributions leave a single path of any weight.
    path, _ = ctc_best_path(logits, x_lens, y, y_lens)
    units = torch.stack([torch.tensor(units_of(path[row], y[row].tolist())) for row in range(3)])
    sharp = torch.nn.functional.one_hot(units, 12).double() * 200
    _, score = ctc_best_path(sharp, x_lens, y, y_lens)
    torch.testing.assert_close(score, -ctc_loss(sharp, x_lens, y, y_lens), atol=1e-6, rtol=0)


def test_an_utterance_without_frames() -> None:
    logits = torch.zeros(2, 2, 3)
    y = torch.tensor([[1], [1]])
    path, scores = ctc_best_path(logits, torch.tensor([0, 0]), y, torch.tensor([0, 1]))
    assert path.eq(NO_LABEL).all()
    assert scores.tolist() == [0.0, -math.inf]


@pytest.mark.parametrize("seed", range(30))
def test_scores_need_not_be_normalised(seed: int) -> None:
    """Labels that are all different: the best of all choices of their first and last frames."""
    generator = torch.Generator().manual_seed(seed)
    frames = int(torch.randint(1, 7, (1,), generator=generator))
    count = int(torch.randint(0, 4, (1,), generator=generator))
    scores = 3 * torch.randn(1, frames, VOCAB_SIZE, generator=generator, dtype=torch.float64)
    # Some labels are impossible on some frames.
    scores[:, :, 1:] = scores[:, :, 1:].masked_fill(
        torch.rand(1, frames, VOCAB_SIZE - 1, generator=generator) < 0.2, -math.inf
    )
    y = torch.arange(1, count + 1).unsqueeze(0)
    path, found = best_label_path(scores, torch.tensor([frames]), y, torch.tensor([count]))
    best = -math.inf
    for bounds in itertools.combinations_with_replacement(range(frames + 1), 2 * count):
        spans = list(zip(bounds[::2], bounds[1::2], strict=True))
        if all(start < end for start, end in spans):
            units = [next((n for n, (a, b) in enumerate(spans, 1) if a <= t < b), 0) for t in range(frames)]
            best = max(best, sum(float(scores[0, t, unit]) for t, unit in enumerate(units)))
    assert float(found) == pytest.approx(best, abs=1e-12)
    if best > -math.inf:
        units = list(units_of(path[0], y[0].tolist()))
        assert sum(float(scores[0, t, unit]) for t, unit in enumerate(units)) == pytest.approx(best)
