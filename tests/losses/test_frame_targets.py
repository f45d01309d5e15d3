"""Frame targets, their loss and the divergence of posteriors, against loops over frames and torch's own functions."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import Tensor

from slimasr.losses.frame_targets import IGNORED, frame_divergence, frame_loss, frame_posteriors, frame_targets


def nearest(frame: int, emissions: list[int], tokens: list[int]) -> int:
    """The token emitted nearest to a frame; of equally near ones the earliest on a later frame, else the last."""
    distances = [abs(frame - emission) for emission in emissions]
    near = [i for i, distance in enumerate(distances) if distance == min(distances)]
    # Tokens of one frame share it: what comes before belongs to the first of them, what comes after to the last.
    first = near[0]
    return tokens[first] if emissions[first] >= frame else tokens[[i for i in near if emissions[i] < frame][-1]]


def test_every_frame_belongs_to_the_token_emitted_nearest_to_it() -> None:
    rng = random.Random(0)
    for _ in range(30):
        lens = [rng.randint(1, 12) for _ in range(4)]
        rows = [sorted(rng.choices(range(length), k=rng.randint(1, 5))) for length in lens]
        width = max(map(len, rows))
        y = torch.tensor([[rng.randint(1, 9) for _ in row] + [0] * (width - len(row)) for row in rows])
        alignment = torch.tensor([row + [-1] * (width - len(row)) for row in rows])
        found = frame_targets(alignment, y, torch.tensor(lens), max(lens))
        for n, (row, length) in enumerate(zip(rows, lens, strict=True)):
            tokens = y[n, : len(row)].tolist()
            expected = [nearest(t, row, tokens) for t in range(length)]
            assert found[n].tolist() == expected + [IGNORED] * (max(lens) - length)


def test_halfway_by_hand() -> None:
    """Emissions at 1, 4, 4, 9: boundaries at 2.5, 4 and 6.5."""
    found = frame_targets(torch.tensor([[1, 4, 4, 9]]), torch.tensor([[5, 6, 7, 8]]), torch.tensor([11]), 12)
    assert found.tolist() == [[5, 5, 5, 6, 6, 7, 7, 8, 8, 8, 8, -1]]


def test_no_alignment_gives_no_target() -> None:
    alignment = torch.tensor([[-1, -1], [2, -1]])
    found = frame_targets(alignment, torch.tensor([[3, 4], [5, 0]]), torch.tensor([3, 3]), 3)
    assert found.tolist() == [[-1, -1, -1], [5, 5, 5]]
    assert frame_targets(torch.zeros(1, 0).long(), torch.zeros(1, 0).long(), torch.tensor([2]), 2).tolist() == [
        [-1] * 2
    ]


def test_loss_is_the_cross_entropy_of_the_frames_with_a_target() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 7, dtype=torch.float16).float().requires_grad_()
    targets = torch.tensor([[1, 2, 2, -1, -1], [6, 0, 3, 3, 5]])
    losses = frame_loss(logits, targets)
    expected = [F.cross_entropy(logits[0, :3], targets[0, :3], reduction="sum")]
    expected.append(F.cross_entropy(logits[1], targets[1], reduction="sum"))
    torch.testing.assert_close(losses, torch.stack(expected))
    (grad,) = torch.autograd.grad(losses.sum(), logits)
    assert (grad[0, 3:] == 0).all() and (grad[0, :3] != 0).any()


LENS = (4, 1, 0, 3)
CLASSES = 5


def scores(seed: int) -> Tensor:
    """(N, T, S) scores in float64; what lies behind the utterances is large."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2.0 * torch.randn(len(LENS), 4, CLASSES, generator=generator, dtype=torch.float64)
    for row, length in enumerate(LENS):
        logits[row, length:] = 1e4 * (seed + torch.arange(CLASSES))
    return logits


def log_softmax(row: list[float]) -> list[float]:
    total = math.log(sum(math.exp(value) for value in row))
    return [value - total for value in row]


def test_cross_entropy_and_divergence_are_those_of_loops_in_float64() -> None:
    student, teacher = scores(1), scores(2)
    targets = torch.tensor([[1, 4, 0, 2], [3, -1, -1, -1], [-1] * 4, [2, -1, 1, -1]])
    entropies, divergences = [], []
    for n, length in enumerate(LENS):
        q = [log_softmax(student[n, t].tolist()) for t in range(length)]
        p = [log_softmax(teacher[n, t].tolist()) for t in range(length)]
        entropies.append(-sum(q[t][targets[n, t]] for t in range(length) if targets[n, t] >= 0))
        divergences.append(
            sum(math.exp(a) * (a - b) for x, y in zip(p, q, strict=True) for a, b in zip(x, y, strict=True))
        )
    inside = torch.arange(4) < torch.tensor(LENS).unsqueeze(1)
    found = frame_divergence(student, frame_posteriors(teacher), inside)
    torch.testing.assert_close(frame_loss(student, targets), torch.tensor(entropies, dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor(divergences, dtype=torch.float64))
    assert not frame_divergence(student, frame_posteriors(student), inside).any()


def test_gradients_match_finite_differences_and_padding_has_none() -> None:
    inside = torch.arange(4) < torch.tensor(LENS).unsqueeze(1)
    targets = torch.randint(CLASSES, (len(LENS), 4), generator=torch.Generator().manual_seed(0))
    targets = targets.masked_fill(~inside, IGNORED)
    teacher = frame_posteriors(scores(2))
    student = scores(1).masked_fill(~inside.unsqueeze(2), 0.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda logits: frame_loss(logits, targets), student)
    assert torch.autograd.gradcheck(lambda logits: frame_divergence(logits, teacher, inside), student)
    (grad,) = torch.autograd.grad(frame_divergence(student, teacher, inside).sum(), student)
    assert grad[inside].any()
    assert not grad[~inside].any()


def test_a_teacher_holds_no_graph_and_half_precision_is_not_enough() -> None:
    """In bfloat16, posteriors of thousands of classes would have two digits."""
    logits = scores(1).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posteriors = frame_posteriors(logits)
        found = frame_divergence(logits, frame_posteriors(scores(2).bfloat16()), torch.ones(4, 4, dtype=torch.bool))
    assert posteriors.dtype == found.dtype == torch.float32
    assert not posteriors.requires_grad
    assert torch.equal(posteriors, logits.float().log_softmax(dim=2))
