"""Frame targets against a loop over frames, their loss against torch's on each utterance alone."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F

from slimasr.losses.frame_targets import IGNORED, frame_loss, frame_targets


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
