"""The alignment-restricted loss sums the alignments inside the windows, and its ranges hold what these need."""

from __future__ import annotations

import itertools
import random as python_random
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from slimasr.losses import transducer

RNNT_TYPES = ("regular", "modified", "constrained")
ALL_TYPES = pytest.mark.parametrize("rnnt_type", RNNT_TYPES)
BLANK = 0
UNITS = 4


@dataclass(frozen=True)
class Case:
    """A ragged batch with its alignment; ``ends`` are lists, one per utterance, None = without alignment."""

    y_lens: list[int]
    x_lens: list[int]
    ends: list[list[int] | None]
    left: int
    right: int
    seed: int = 0

    @property
    def symbols(self) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randint(1, UNITS, (len(self.y_lens), max(self.y_lens)), generator=generator)

    @property
    def boundary(self) -> Tensor:
        return torch.tensor([[0, 0, u, t] for u, t in zip(self.y_lens, self.x_lens, strict=True)])

    @property
    def logits(self) -> Tensor:
        """(N, T, U + 1, C) scores at all nodes."""
        shape = (len(self.y_lens), max(self.x_lens), max(self.y_lens) + 1, UNITS)
        generator = torch.Generator().manual_seed(self.seed)
        return (2.0 * torch.randn(*shape, generator=generator, dtype=torch.float64)).requires_grad_()

    def windows(self, rnnt_type: str) -> transducer.EmissionWindows:
        ends = torch.full((len(self.y_lens), max(self.y_lens)), -1)
        for row, known in zip(ends, self.ends, strict=True):
            if known is not None:
                row[: len(known)] = torch.tensor(known)
        return transducer.emission_windows(ends, self.boundary, self.left, self.right, rnnt_type)

    def loss(self, logits: Tensor, rnnt_type: str = "regular", delay_penalty: float = 0.0) -> Tensor:
        """(N,) restricted losses from scores at all nodes."""
        windows = self.windows(rnnt_type)
        ranges = transducer.restricted_ranges(windows, logits.shape[1])
        return transducer.rnnt_loss_restricted(
            kept(logits, ranges),
            self.symbols,
            ranges,
            windows,
            BLANK,
            self.boundary,
            rnnt_type,
            delay_penalty,
            "none",
            backend="torch",
        )


def kept(logits: Tensor, ranges: Tensor) -> Tensor:
    return logits.gather(2, ranges.unsqueeze(3).expand(-1, -1, -1, logits.shape[3]))


def full_loss(case: Case, logits: Tensor, rnnt_type: str, delay_penalty: float = 0.0) -> Tensor:
    return transducer.rnnt_loss(
        logits, case.symbols, BLANK, case.boundary, rnnt_type, delay_penalty, "none", backend="torch"
    )


def allowed_frames(ends: list[int], num_frames: int, left: int, right: int) -> list[range]:
    """The frames at which each symbol may be emitted."""
    frames, latest = [], 0
    for end in ends:
        latest = max(latest, min(end, num_frames - 1))
        frames.append(range(max(0, latest - left), min(num_frames - 1, latest + right) + 1))
    return frames


def emissions(frames: list[range], rnnt_type: str) -> list[tuple[int, ...]]:
    """All ways to choose the symbols' frames in order: in a regular lattice, symbols may share a frame."""
    gap = 0 if rnnt_type == "regular" else 1
    chosen = itertools.product(*frames)
    return [times for times in chosen if all(b - a >= gap for a, b in itertools.pairwise(times))]


def alignment_score(
    log_probs: Tensor, symbols: list[int], times: tuple[int, ...], rnnt_type: str, delay_penalty: float
) -> Tensor:
    """Log-probability of the alignment that emits the symbols at these frames."""
    num_frames = log_probs.shape[0]
    score = log_probs.new_zeros(())
    for u, (t, unit) in enumerate(zip(times, symbols, strict=True)):
        score = score + log_probs[t, u, unit] + delay_penalty * ((num_frames - 1) / 2 - t)
        if rnnt_type == "constrained":
            score = score + log_probs[t, u + 1, BLANK]
    for t in range(num_frames):
        if rnnt_type == "regular" or t not in times:
            score = score + log_probs[t, sum(emitted <= t for emitted in times), BLANK]
    return score


def enumerated_losses(
    case: Case, logits: Tensor, rnnt_type: str, delay_penalty: float = 0.0
) -> tuple[Tensor, list[bool]]:
    """(N,) losses from all alignments inside the windows, and which utterances have none and take them all."""
    losses, unrestricted = [], []
    for n, (num_symbols, num_frames) in enumerate(zip(case.y_lens, case.x_lens, strict=True)):
        log_probs = logits[n, :num_frames, : num_symbols + 1].log_softmax(dim=-1)
        symbols = case.symbols[n, :num_symbols].tolist()
        ends = case.ends[n]
        inside = None if ends is None else allowed_frames(ends, num_frames, case.left, case.right)
        times = [] if inside is None else emissions(inside, rnnt_type)
        unrestricted.append(not times)
        times = times or emissions([range(num_frames)] * num_symbols, rnnt_type)
        scores = [alignment_score(log_probs, symbols, chosen, rnnt_type, delay_penalty) for chosen in times]
        losses.append(-torch.stack(scores).logsumexp(dim=0) if scores else logits.new_tensor(torch.inf))
    return torch.stack(losses), unrestricted


def random_case(seed: int) -> Case:
    """Four utterances of up to 5 frames and 3 symbols, some of them without alignment or with ends behind them."""
    draw = python_random.Random(seed)
    x_lens = [draw.randint(1, 5) for _ in range(4)]
    y_lens = [draw.randint(0, 3) for _ in range(4)]
    # Ends are not sorted, and may lie behind the utterance.
    ends = [[draw.randint(0, t + 1) for _ in range(u)] for u, t in zip(y_lens, x_lens, strict=True)]
    known = [None if u > 0 and draw.random() < 0.1 else row for u, row in zip(y_lens, ends, strict=True)]
    return Case(y_lens, x_lens, known, left=draw.randint(0, 2), right=draw.randint(0, 2), seed=seed)


@pytest.mark.parametrize("penalty", [0.0, 0.7])
@ALL_TYPES
def test_loss_and_gradient_match_the_enumeration_of_the_alignments_inside_the_windows(
    rnnt_type: str, penalty: float
) -> None:
    seen = {False: 0, True: 0}
    for seed in range(50):
        case = random_case(seed)
        logits = case.logits
        expected, unrestricted = enumerated_losses(case, logits, rnnt_type, penalty)
        loss = case.loss(logits, rnnt_type, penalty)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12, msg=lambda text, case=case: f"{case} {text}")
        assert case.windows(rnnt_type).unrestricted.tolist() == unrestricted

        finite = expected.isfinite()
        (grad,) = torch.autograd.grad(loss.sum(), logits)
        (expected_grad,) = torch.autograd.grad(expected[finite].sum(), logits)
        torch.testing.assert_close(grad, expected_grad, rtol=1e-9, atol=1e-12)
        for row in unrestricted:
            seen[row] += 1
    assert min(seen.values()) > 5


TIGHT = Case([3, 0, 2, 1], [6, 4, 3, 1], [[1, 3, 4], [], [0, 1], [0]], left=0, right=1)
"""All utterances have a path in each type of lattice; symbols, utterances and windows of several lengths."""


@pytest.mark.parametrize("penalty", [0.0, 0.3])
@ALL_TYPES
def test_wide_buffers_give_the_full_loss_bit_by_bit(rnnt_type: str, penalty: float) -> None:
    case = Case(TIGHT.y_lens, TIGHT.x_lens, TIGHT.ends, left=6, right=6)
    logits = case.logits
    loss = case.loss(logits, rnnt_type, penalty)
    expected = full_loss(case, logits, rnnt_type, penalty)
    assert not case.windows(rnnt_type).unrestricted.any()
    assert torch.equal(loss, expected)
    assert torch.equal(
        torch.autograd.grad(loss.sum(), logits)[0],
        torch.autograd.grad(expected.sum(), logits)[0],
    )


@ALL_TYPES
def test_gradients_match_finite_differences(rnnt_type: str) -> None:
    case = Case([2, 1, 1], [3, 2, 2], [[0, 1], [1], None], left=0, right=1)
    assert case.windows(rnnt_type).unrestricted.tolist() == [False, False, True]
    assert torch.autograd.gradcheck(lambda logits: case.loss(logits, rnnt_type, 0.2), case.logits)


@ALL_TYPES
def test_gradients_reach_both_sides_of_the_joiner_as_they_would_through_all_nodes(rnnt_type: str) -> None:
    generator = torch.Generator().manual_seed(0)
    am = torch.randn(4, 6, UNITS, generator=generator, dtype=torch.float64).requires_grad_()
    lm = torch.randn(4, 4, UNITS, generator=generator, dtype=torch.float64).requires_grad_()
    windows = TIGHT.windows(rnnt_type)
    ranges = transducer.restricted_ranges(windows, 6)
    am_kept, lm_kept = transducer.do_rnnt_pruning(am, lm, ranges)
    loss = transducer.rnnt_loss_restricted(
        torch.tanh(am_kept + lm_kept),
        TIGHT.symbols,
        ranges,
        windows,
        BLANK,
        TIGHT.boundary,
        rnnt_type,
        reduction="sum",
        backend="torch",
    )
    expected, _ = enumerated_losses(TIGHT, torch.tanh(am.unsqueeze(2) + lm.unsqueeze(1)), rnnt_type)
    torch.testing.assert_close(loss, expected.sum(), rtol=1e-12, atol=1e-12)
    for grad, expected_grad in zip(
        torch.autograd.grad(loss, (am, lm)), torch.autograd.grad(expected.sum(), (am, lm)), strict=True
    ):
        torch.testing.assert_close(grad, expected_grad, rtol=1e-9, atol=1e-12)


@ALL_TYPES
def test_padding_and_neighbours_change_nothing(rnnt_type: str) -> None:
    """Each utterance alone has the value and the gradient that it has in the batch, whatever the padding holds."""
    logits = TIGHT.logits
    with torch.no_grad():
        for n, (num_symbols, num_frames) in enumerate(zip(TIGHT.y_lens, TIGHT.x_lens, strict=True)):
            logits[n, num_frames:] = 1e4
            logits[n, :, num_symbols + 1 :] = -1e4
    loss = TIGHT.loss(logits, rnnt_type)
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    for n, (num_symbols, num_frames) in enumerate(zip(TIGHT.y_lens, TIGHT.x_lens, strict=True)):
        ends = torch.tensor([TIGHT.ends[n]], dtype=torch.int64)
        limits = torch.tensor([[0, 0, num_symbols, num_frames]])
        windows = transducer.emission_windows(ends, limits, TIGHT.left, TIGHT.right, rnnt_type)
        ranges = transducer.restricted_ranges(windows, num_frames)
        cut = logits[n : n + 1, :num_frames, : num_symbols + 1].detach().requires_grad_()
        alone = transducer.rnnt_loss_restricted(
            kept(cut, ranges), TIGHT.symbols[n : n + 1, :num_symbols], ranges, windows, BLANK, None, rnnt_type
        )
        (grad_alone,) = torch.autograd.grad(alone, cut)
        torch.testing.assert_close(loss[n], alone, rtol=1e-13, atol=0.0)
        torch.testing.assert_close(grad[n, :num_frames, : num_symbols + 1], grad_alone[0], rtol=1e-12, atol=1e-14)
        assert not grad[n, num_frames:].any()
        assert not grad[n, :, num_symbols + 1 :].any()


@pytest.mark.parametrize("seed", range(5))
def test_ranges_hold_every_node_inside_the_windows_and_are_as_wide_as_the_densest_frame(seed: int) -> None:
    draw = python_random.Random(seed)
    y_lens, x_lens, left, right = [20, 7, 1, 0], [40, 25, 3, 10], 2, 4
    ends = [sorted(draw.randint(0, t) for _ in range(u)) for u, t in zip(y_lens, x_lens, strict=True)]
    windows = Case(y_lens, x_lens, ends, left, right).windows("regular")
    ranges = transducer.restricted_ranges(windows, 43)
    assert not windows.unrestricted.any()

    densest = 1
    for n, (num_symbols, num_frames) in enumerate(zip(y_lens, x_lens, strict=True)):
        allowed = allowed_frames(ends[n], num_frames, left, right)
        for t in range(num_frames):
            # Position u: symbol u - 1 may be emitted by now, and symbol u may still be.
            inside = {
                u
                for u in range(num_symbols + 1)
                if (u == 0 or t >= allowed[u - 1].start) and (u == num_symbols or t < allowed[u].stop)
            }
            assert inside <= set(ranges[n, t].tolist())
            densest = max(densest, len(inside))
    assert ranges.shape == (4, 43, densest)
    torch.testing.assert_close(ranges - ranges[:, :, :1], torch.arange(densest).expand_as(ranges))
    assert int(ranges.min()) >= 0
    assert int(ranges.max()) <= 20
    assert (ranges.diff(dim=1) >= 0).all()


@ALL_TYPES
def test_utterances_without_alignment_have_the_full_loss_and_leave_the_others_alone(rnnt_type: str) -> None:
    case = Case(TIGHT.y_lens, TIGHT.x_lens, [None, [], None, [0]], TIGHT.left, TIGHT.right)
    logits = case.logits
    assert case.windows(rnnt_type).unrestricted.tolist() == [True, False, True, False]
    loss = case.loss(logits, rnnt_type)
    expected = torch.where(
        torch.tensor([True, False, True, False]), full_loss(case, logits, rnnt_type), TIGHT.loss(logits, rnnt_type)
    )
    assert loss.isfinite().all()
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0.0)
    torch.testing.assert_close(
        torch.autograd.grad(loss.sum(), logits)[0], torch.autograd.grad(expected.sum(), logits)[0]
    )


def test_rows_that_are_selected_apart_keep_narrow_ranges_and_their_losses() -> None:
    case = Case([3, 3, 3], [9, 9, 9], [[1, 4, 7], None, [2, 5, 8]], left=1, right=1)
    logits, windows, together = case.logits, case.windows("regular"), case.loss(case.logits)
    widths = []
    for rows in (windows.unrestricted, ~windows.unrestricted):
        part = windows.select(rows)
        ranges = transducer.restricted_ranges(part, 9)
        widths.append(ranges.shape[2])
        apart = transducer.rnnt_loss_restricted(
            kept(logits[rows], ranges), case.symbols[rows], ranges, part, BLANK, case.boundary[rows], reduction="none"
        )
        torch.testing.assert_close(apart, together[rows], rtol=1e-13, atol=0.0)
    assert widths == [4, 2]


def test_an_end_that_is_missing_among_others_is_an_utterance_without_alignment() -> None:
    windows = Case([3, 3], [5, 5], [[0, -1, 2], [0, 1, 2]], left=1, right=1).windows("regular")
    assert windows.unrestricted.tolist() == [True, False]


def test_symbols_that_end_together_need_frames_of_their_own_unless_the_lattice_is_regular() -> None:
    narrow = Case([3, 3], [6, 6], [[2, 2, 2], [1, 2, 3]], left=0, right=1)
    for rnnt_type in ("modified", "constrained"):
        assert narrow.windows(rnnt_type).unrestricted.tolist() == [True, False]
        logits = narrow.logits
        torch.testing.assert_close(narrow.loss(logits, rnnt_type)[0], full_loss(narrow, logits, rnnt_type)[0])
    assert not narrow.windows("regular").unrestricted.any()
    wider = Case([3, 3], [6, 6], [[2, 2, 2], [1, 2, 3]], left=1, right=1)
    assert not wider.windows("modified").unrestricted.any()


def test_single_path_inside_the_windows_is_the_loss() -> None:
    """Without buffers, a regular lattice keeps one alignment: each symbol at its own end."""
    case = Case([3], [5], [[1, 1, 4]], left=0, right=0)
    logits = case.logits
    log_probs = logits[0].log_softmax(dim=-1)
    first, second, third = case.symbols[0].tolist()
    expected = (
        log_probs[0, 0, BLANK]
        + log_probs[1, 0, first]
        + log_probs[1, 1, second]
        + log_probs[[1, 2, 3], 2, BLANK].sum()
        + log_probs[4, 2, third]
        + log_probs[4, 3, BLANK]
    )
    torch.testing.assert_close(case.loss(logits)[0], -expected)


def test_ends_behind_the_utterance_or_before_their_predecessor_are_moved() -> None:
    given = Case([3, 2], [5, 4], [[2, 1, 9], [3, 4]], left=1, right=0).windows("regular")
    moved = Case([3, 2], [5, 4], [[2, 2, 4], [3, 3]], left=1, right=0).windows("regular")
    assert torch.equal(given.first, moved.first)
    assert torch.equal(given.last, moved.last)
    assert given.first[0].tolist() == [1, 1, 3]
    assert given.last[0].tolist() == [2, 2, 4]


@ALL_TYPES
def test_loss_is_infinite_only_without_a_path_in_the_full_lattice(rnnt_type: str) -> None:
    case = Case([3, 2], [2, 3], [[0, 0, 1], [0, 1]], left=0, right=0)
    logits = case.logits
    loss = case.loss(logits, rnnt_type)
    assert loss.isinf().tolist() == [rnnt_type != "regular", False]
    assert case.windows(rnnt_type).unrestricted.tolist() == [rnnt_type != "regular", False]
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    assert grad.isfinite().all()
    assert grad[1].any()


def test_reductions_are_over_utterances() -> None:
    logits, windows = TIGHT.logits, TIGHT.windows("regular")
    ranges = transducer.restricted_ranges(windows, 6)
    args = (kept(logits, ranges), TIGHT.symbols, ranges, windows, BLANK, TIGHT.boundary)
    each = TIGHT.loss(logits)
    torch.testing.assert_close(transducer.rnnt_loss_restricted(*args), each.mean())
    torch.testing.assert_close(transducer.rnnt_loss_restricted(*args, reduction="sum"), each.sum())


@ALL_TYPES
def test_batch_without_symbols_is_all_blanks(rnnt_type: str) -> None:
    case = Case([0, 0], [4, 1], [[], []], left=1, right=1)
    logits = case.logits
    blanks = logits[:, :, 0].log_softmax(dim=-1)[:, :, BLANK]
    assert transducer.restricted_ranges(case.windows(rnnt_type), 4).shape == (2, 4, 1)
    torch.testing.assert_close(case.loss(logits, rnnt_type), torch.stack([-blanks[0].sum(), -blanks[1, 0]]))


def test_long_utterances_keep_finite_gradients_in_float32() -> None:
    draw = python_random.Random(0)
    ends = [sorted(draw.sample(range(300), 40)) for _ in range(2)]
    case = Case([40, 40], [300, 280], ends, left=2, right=5)
    logits = case.logits
    single = logits.detach().float().requires_grad_()
    loss, single_loss = case.loss(logits).sum(), case.loss(single).sum()
    (grad,), (single_grad,) = torch.autograd.grad(loss, logits), torch.autograd.grad(single_loss, single)
    assert single_loss.dtype == torch.float32
    torch.testing.assert_close(single_loss.double(), loss, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(single_grad.double(), grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss_is_float32_under_autocast(dtype: torch.dtype) -> None:
    half = TIGHT.logits.detach().to(dtype).requires_grad_()
    expected = TIGHT.loss(half.float())
    with torch.autocast("cpu", dtype=dtype):
        loss = TIGHT.loss(half)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)
    assert torch.autograd.grad(loss.sum(), half)[0].dtype == dtype


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"left_buffer": -1}, "left_buffer must be at least 0 frames, not -1"),
        ({"right_buffer": -2}, "right_buffer must be at least 0 frames, not -2"),
        ({"rnnt_type": "strict"}, "rnnt_type must be regular, modified or constrained, not 'strict'"),
        ({"boundary": torch.tensor([[0, 1, 2, 4]])}, "begin at symbol 0 and frame 0"),
        ({"boundary": torch.tensor([[0, 0, 3, 4]])}, "outside of a lattice"),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, object], message: str) -> None:
    arguments = {
        "ends": torch.tensor([[1, 2]]),
        "boundary": torch.tensor([[0, 0, 2, 4]]),
        "left_buffer": 1,
        "right_buffer": 1,
    }
    with pytest.raises(ValueError, match=message):
        transducer.emission_windows(**{**arguments, **change})
