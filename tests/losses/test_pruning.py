"""Prune ranges are bands that paths can follow, and the loss inside them sums the right alignments."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from slimasr.losses import transducer

RNNT_TYPES = ("regular", "modified", "constrained")
BLANK = 0
UNITS = 6


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2.0 * torch.randn(*shape, generator=generator, dtype=torch.float64)).requires_grad_()


def make_symbols(batch_size: int, length: int) -> Tensor:
    return torch.randint(1, UNITS, (batch_size, length), generator=torch.Generator().manual_seed(0))


def make_boundary(y_lens: list[int], x_lens: list[int]) -> Tensor:
    return torch.tensor([[0, 0, u, t] for u, t in zip(y_lens, x_lens, strict=True)])


def simple_occupation(
    y_lens: list[int], x_lens: list[int], rnnt_type: str, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Occupations of a random simple lattice, and its boundary."""
    batch_size, max_u, max_t = len(y_lens), max(y_lens), max(x_lens)
    boundary = make_boundary(y_lens, x_lens)
    _, (px_grad, py_grad) = transducer.rnnt_loss_simple(
        random(batch_size, max_u + 1, UNITS, seed=seed),
        random(batch_size, max_t, UNITS, seed=seed + 1),
        make_symbols(batch_size, max_u),
        BLANK,
        boundary,
        rnnt_type,
        return_grad=True,
        backend="torch",
    )
    return px_grad, py_grad, boundary


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("s_range", [2, 3, 5])
@pytest.mark.parametrize("rnnt_type", RNNT_TYPES)
def test_ranges_are_bands_from_the_first_to_the_last_node(rnnt_type: str, s_range: int, seed: int) -> None:
    y_lens, x_lens = [12, 3, 1, 0, 9], [20, 20, 7, 5, 9]
    px_grad, py_grad, boundary = simple_occupation(y_lens, x_lens, rnnt_type, seed)
    ranges = transducer.get_rnnt_prune_ranges(px_grad, py_grad, boundary, s_range)
    assert ranges.shape == (5, 20, s_range)
    torch.testing.assert_close(ranges - ranges[:, :, :1], torch.arange(s_range).expand_as(ranges))
    assert int(ranges.min()) >= 0
    assert int(ranges.max()) <= max(y_lens)
    rise = ranges[:, 1:, 0] - ranges[:, :-1, 0]
    assert int(rise.min()) >= 0
    assert int(rise.max()) <= (s_range - 1 if rnnt_type == "regular" else 1)
    for n, (num_symbols, num_frames) in enumerate(zip(y_lens, x_lens, strict=True)):
        assert ranges[n, 0, 0] == 0
        assert num_symbols in ranges[n, num_frames - 1].tolist()


@pytest.mark.parametrize("rnnt_type", RNNT_TYPES)
def test_ranges_follow_the_alignment_of_a_confident_lattice(rnnt_type: str) -> None:
    """Encoder logits that spell one alignment out: each of its nodes must be kept."""
    symbols = torch.tensor([[1, 2, 3, 4, 5, 1, 2, 3]])
    emitting = [2, 3, 7, 8, 14, 15, 16, 22]  # frame of each symbol
    am = torch.zeros(1, 25, UNITS)
    if rnnt_type == "regular":
        # A frame that emits scores its symbol and the blank behind it alike.
        am[0, :, BLANK] = 20.0
    else:
        am[0, :, BLANK] = torch.tensor([0.0 if t in emitting else 20.0 for t in range(25)])
    for frame, unit in zip(emitting, symbols[0].tolist(), strict=True):
        am[0, frame, unit] = 40.0 if rnnt_type == "regular" else 20.0
    lm = torch.zeros(1, 9, UNITS)
    for u, unit in enumerate(symbols[0].tolist()):
        lm[0, u, unit] = 10.0
    boundary = make_boundary([8], [25])
    _, (px_grad, py_grad) = transducer.rnnt_loss_simple(
        lm, am, symbols, BLANK, boundary, rnnt_type, return_grad=True, backend="torch"
    )
    ranges = transducer.get_rnnt_prune_ranges(px_grad, py_grad, boundary, 3)
    for u, frame in enumerate(emitting):
        assert px_grad[0, u, frame] > 0.99
        assert u in ranges[0, frame].tolist()


@pytest.mark.parametrize("rnnt_type", RNNT_TYPES)
def test_pruned_loss_sums_the_alignments_inside_the_band(
    enumerated_loss: Callable[..., Tensor], rnnt_type: str
) -> None:
    y_lens, x_lens = [4, 2, 1], [6, 6, 3]
    symbols = make_symbols(3, 4)
    px_grad, py_grad, boundary = simple_occupation(y_lens, x_lens, rnnt_type)
    ranges = transducer.get_rnnt_prune_ranges(px_grad, py_grad, boundary, 2)
    logits = random(3, 6, 5, UNITS, seed=7)
    kept_logits = logits.gather(2, ranges.unsqueeze(3).expand(-1, -1, -1, UNITS))
    loss = transducer.rnnt_loss_pruned(
        kept_logits, symbols, ranges, BLANK, boundary, rnnt_type, 0.3, "none", backend="torch"
    )
    expected = []
    for n, (num_symbols, num_frames) in enumerate(zip(y_lens, x_lens, strict=True)):
        kept = {(t, u) for t in range(num_frames) for u in ranges[n, t].tolist()}
        cut = logits[n, :num_frames, : num_symbols + 1]
        expected.append(enumerated_loss(cut, symbols[n, :num_symbols].tolist(), BLANK, rnnt_type, 0.3, kept))
    torch.testing.assert_close(loss, torch.stack(expected), rtol=1e-11, atol=1e-12)
    (grad,) = torch.autograd.grad(loss.sum(), logits, retain_graph=True)
    (expected_grad,) = torch.autograd.grad(torch.stack(expected).sum(), logits)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("s_range", [6, 50])
@pytest.mark.parametrize("rnnt_type", RNNT_TYPES)
def test_range_of_all_positions_gives_the_full_loss(rnnt_type: str, s_range: int) -> None:
    y_lens, x_lens = [5, 2, 0], [8, 8, 4]
    symbols, logits = make_symbols(3, 5), random(3, 8, 6, UNITS, seed=3)
    px_grad, py_grad, boundary = simple_occupation(y_lens, x_lens, rnnt_type)
    ranges = transducer.get_rnnt_prune_ranges(px_grad, py_grad, boundary, s_range)
    assert ranges.shape == (3, 8, 6)
    options = {"rnnt_type": rnnt_type, "delay_penalty": 0.1, "reduction": "none", "backend": "torch"}
    pruned = transducer.rnnt_loss_pruned(logits, symbols, ranges, BLANK, boundary, **options)
    full = transducer.rnnt_loss(logits, symbols, BLANK, boundary, **options)
    torch.testing.assert_close(pruned, full)
    torch.testing.assert_close(torch.autograd.grad(pruned.sum(), logits)[0], torch.autograd.grad(full.sum(), logits)[0])


@pytest.mark.parametrize("rnnt_type", RNNT_TYPES)
def test_batch_without_symbols_can_be_pruned(rnnt_type: str) -> None:
    boundary, symbols = make_boundary([0, 0], [4, 2]), torch.zeros(2, 0, dtype=torch.int64)
    lm, am = random(2, 1, UNITS), random(2, 4, UNITS, seed=1)
    _, (px_grad, py_grad) = transducer.rnnt_loss_simple(
        lm, am, symbols, BLANK, boundary, rnnt_type, return_grad=True, backend="torch"
    )
    ranges = transducer.get_rnnt_prune_ranges(px_grad, py_grad, boundary, 5)
    am_pruned, lm_pruned = transducer.do_rnnt_pruning(am, lm, ranges)
    loss = transducer.rnnt_loss_pruned(
        am_pruned + lm_pruned, symbols, ranges, BLANK, boundary, rnnt_type, reduction="none", backend="torch"
    )
    blank = (am + lm).log_softmax(dim=-1)[:, :, BLANK]
    torch.testing.assert_close(loss, torch.stack([-blank[0].sum(), -blank[1, :2].sum()]))


def test_range_too_narrow_for_a_short_utterance_is_widened_with_a_warning() -> None:
    px_grad, py_grad, boundary = simple_occupation([11, 3], [3, 9], "regular")
    with pytest.warns(UserWarning, match="too narrow"):
        ranges = transducer.get_rnnt_prune_ranges(px_grad, py_grad, boundary, 2)
    symbols = make_symbols(2, 11)
    logits = random(2, 9, ranges.shape[2], UNITS)
    loss = transducer.rnnt_loss_pruned(logits, symbols, ranges, BLANK, boundary, reduction="none", backend="torch")
    assert loss.isfinite().all()


@pytest.mark.parametrize(("rnnt_type", "s_range"), [("regular", 1), ("modified", 0)])
def test_range_that_lets_no_path_move_is_refused(rnnt_type: str, s_range: int) -> None:
    px_grad, py_grad, boundary = simple_occupation([4], [8], rnnt_type)
    with pytest.raises(ValueError, match="s_range"):
        transducer.get_rnnt_prune_ranges(px_grad, py_grad, boundary, s_range)


def test_joiner_inputs_are_each_frame_paired_with_its_positions() -> None:
    am, lm = random(2, 4, 3), random(2, 6, 5, seed=1)
    ranges = torch.tensor([[[0, 1], [0, 1], [1, 2], [2, 3]], [[0, 1], [1, 2], [2, 3], [4, 5]]])
    am_pruned, lm_pruned = transducer.do_rnnt_pruning(am, lm, ranges)
    expected_am = torch.stack([torch.stack([am[n, t] for _ in range(2)]) for n in range(2) for t in range(4)])
    expected_lm = torch.stack([lm[n, u] for n in range(2) for t in range(4) for u in ranges[n, t].tolist()])
    torch.testing.assert_close(am_pruned.reshape(8, 2, 3), expected_am)
    torch.testing.assert_close(lm_pruned.reshape(16, 5), expected_lm)
    weights = torch.arange(80, dtype=torch.float64).reshape(2, 4, 2, 5)
    (grad,) = torch.autograd.grad((weights * lm_pruned).sum(), lm)
    (expected_grad,) = torch.autograd.grad((weights.reshape(16, 5) * expected_lm).sum(), lm)
    torch.testing.assert_close(grad, expected_grad)
