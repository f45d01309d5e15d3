"""Transducer losses on the full lattice: values and gradients against enumeration, loops and differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from slimasr.errors import UserError
from slimasr.losses import transducer
from slimasr.losses.transducer.lattice import lattice_scores

RNNT_TYPES = ("regular", "modified", "constrained")
BLANK = 2
UNITS = 5


def make_symbols(batch_size: int, length: int, seed: int = 0) -> Tensor:
    """Random units other than the blank, which here is not the first one."""
    generator = torch.Generator().manual_seed(seed)
    symbols = torch.randint(UNITS - 1, (batch_size, length), generator=generator)
    return symbols + (symbols >= BLANK)


def make_boundary(y_lens: list[int], x_lens: list[int]) -> Tensor:
    return torch.tensor([[0, 0, u, t] for u, t in zip(y_lens, x_lens, strict=True)])


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2.0 * torch.randn(*shape, generator=generator, dtype=dtype)).requires_grad_()


def oracle_losses(
    oracle: Callable[..., Tensor],
    logits: Tensor,
    symbols: Tensor,
    boundary: Tensor,
    rnnt_type: str,
    penalty: float,
) -> Tensor:
    """The oracle on each utterance, cut to its length."""
    return torch.stack(
        [
            oracle(logits[n, :t, : u + 1], symbols[n, :u].tolist(), BLANK, rnnt_type, penalty)
            for n, (_, _, u, t) in enumerate(boundary.tolist())
        ]
    )


@pytest.mark.parametrize("penalty", [0.0, 0.7])
@pytest.mark.parametrize("rnnt_type", RNNT_TYPES)
@pytest.mark.parametrize(
    ("y_lens", "x_lens"),
    [([3], [4]), ([0], [3]), ([1], [1]), ([0], [1]), ([3, 0, 1, 2], [3, 5, 1, 4])],
    ids=["one", "no symbols", "one frame", "one frame, no symbols", "ragged"],
)
def test_loss_and_gradient_match_the_enumeration_of_all_alignments(
    enumerated_loss: Callable[..., Tensor],
    rnnt_type: str,
    y_lens: list[int],
    x_lens: list[int],
    penalty: float,
) -> None:
    logits = random(len(y_lens), max(x_lens), max(y_lens) + 1, UNITS)
    symbols, boundary = make_symbols(len(y_lens), max(y_lens)), make_boundary(y_lens, x_lens)
    weights = torch.arange(1.0, len(y_lens) + 1, dtype=torch.float64)

    expected = oracle_losses(enumerated_loss, logits, symbols, boundary, rnnt_type, penalty)
    (expected_grad,) = torch.autograd.grad((weights * expected).sum(), logits)
    loss = transducer.rnnt_loss(logits, symbols, BLANK, boundary, rnnt_type, penalty, "none", backend="torch")
    (grad,) = torch.autograd.grad((weights * loss).sum(), logits)

    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-10, atol=1e-12)


def test_several_symbols_on_one_frame_are_an_alignment_of_the_regular_lattice_only(
    enumerated_loss: Callable[..., Tensor],
) -> None:
    logits, symbols = random(1, 1, 3, UNITS), make_symbols(1, 2)
    loss = transducer.rnnt_loss(logits, symbols, BLANK, backend="torch")
    torch.testing.assert_close(loss, enumerated_loss(logits[0], symbols[0].tolist(), BLANK))
    for rnnt_type in ("modified", "constrained"):
        assert transducer.rnnt_loss(logits, symbols, BLANK, rnnt_type=rnnt_type, backend="torch") == torch.inf


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("rnnt_type", RNNT_TYPES)
def test_larger_ragged_batch_matches_the_slow_recursion(
    recursive_loss: Callable[..., Tensor], rnnt_type: str, dtype: torch.dtype
) -> None:
    y_lens, x_lens = [7, 0, 3, 6, 7], [14, 9, 13, 6, 7]
    logits = random(5, 14, 8, UNITS)
    symbols, boundary = make_symbols(5, 7), make_boundary(y_lens, x_lens)
    expected = oracle_losses(recursive_loss, logits, symbols, boundary, rnnt_type, 0.1)
    (expected_grad,) = torch.autograd.grad(expected.sum(), logits)

    single = logits.detach().to(dtype).requires_grad_()
    loss = transducer.rnnt_loss(single, symbols, BLANK, boundary, rnnt_type, 0.1, "none", backend="torch")
    (grad,) = torch.autograd.grad(loss.sum(), single)

    tolerance = {"rtol": 1e-10, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
    assert loss.dtype == grad.dtype == dtype
    torch.testing.assert_close(loss.double(), expected, **tolerance)
    torch.testing.assert_close(grad.double(), expected_grad, **tolerance)


@pytest.mark.parametrize("rnnt_type", RNNT_TYPES)
def test_gradients_match_finite_differences(rnnt_type: str) -> None:
    symbols, boundary = make_symbols(2, 2), make_boundary([2, 1], [4, 3])
    ranges = torch.tensor([[[0, 1], [0, 1], [1, 2], [1, 2]], [[0, 1], [0, 1], [0, 1], [0, 1]]])
    options = {"rnnt_type": rnnt_type, "delay_penalty": 0.2, "reduction": "none", "backend": "torch"}

    def full(logits: Tensor) -> Tensor:
        return transducer.rnnt_loss(logits, symbols, BLANK, boundary, **options)

    def pruned(logits: Tensor) -> Tensor:
        return transducer.rnnt_loss_pruned(logits, symbols, ranges, BLANK, boundary, **options)

    def simple(lm: Tensor, am: Tensor) -> Tensor:
        return transducer.rnnt_loss_simple(lm, am, symbols, BLANK, boundary, **options)

    def smoothed(lm: Tensor, am: Tensor) -> Tensor:
        return transducer.rnnt_loss_smoothed(lm, am, symbols, BLANK, 0.2, 0.3, boundary, **options)

    assert torch.autograd.gradcheck(full, random(2, 4, 3, UNITS))
    assert torch.autograd.gradcheck(pruned, random(2, 4, 2, UNITS))
    for additive in (simple, smoothed):
        assert torch.autograd.gradcheck(additive, (random(2, 3, UNITS), random(2, 4, UNITS, seed=1)))


@pytest.mark.parametrize("rnnt_type", RNNT_TYPES)
def test_simple_loss_is_the_full_loss_of_the_added_logits(
    recursive_loss: Callable[..., Tensor], rnnt_type: str
) -> None:
    lm, am, symbols = random(3, 5, UNITS), random(3, 7, UNITS, seed=1), make_symbols(3, 4)
    boundary = make_boundary([4, 2, 0], [7, 6, 3])
    added = am.unsqueeze(2) + lm.unsqueeze(1)
    expected = oracle_losses(recursive_loss, added, symbols, boundary, rnnt_type, 0.4)
    loss = transducer.rnnt_loss_simple(
        lm, am, symbols, BLANK, boundary, rnnt_type, 0.4, reduction="none", backend="torch"
    )
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    for grad, expected_grad in zip(
        torch.autograd.grad(loss.sum(), (lm, am)), torch.autograd.grad(expected.sum(), (lm, am)), strict=True
    ):
        torch.testing.assert_close(grad, expected_grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("lm_scale", "am_scale"), [(0.25, 0.1), (0.0, 0.0), (0.3, 0.7), (0.0, 1.0)])
def test_smoothed_loss_is_the_loss_of_three_distributions_mixed_by_hand(lm_scale: float, am_scale: float) -> None:
    """Log-linear mix of softmax(lm + am), softmax(lm) and softmax(am + log mean of all softmax(lm))."""
    lm, am, symbols = random(2, 4, UNITS), random(2, 5, UNITS, seed=1), make_symbols(2, 3)
    both = (am.unsqueeze(2) + lm.unsqueeze(1)).log_softmax(dim=-1)
    lm_only = lm.log_softmax(dim=-1).unsqueeze(1).expand_as(both)
    unigram = lm.softmax(dim=-1).flatten(0, 1).mean(dim=0)
    am_only = (am + unigram.log()).log_softmax(dim=-1).unsqueeze(2).expand_as(both)
    mixed = (1 - lm_scale - am_scale) * both + lm_scale * lm_only + am_scale * am_only  # (2, T, U + 1, C)

    alpha = {(0, 0): mixed.new_zeros(2)}
    for t in range(6):
        for u in range(4):
            ways = []
            if t > 0 and (t - 1, u) in alpha:
                ways.append(alpha[t - 1, u] + mixed[:, t - 1, u, BLANK])
            if u > 0 and t < 5:
                ways.append(alpha[t, u - 1] + mixed[:, t, u - 1].gather(1, symbols[:, u - 1, None])[:, 0])
            if ways:
                alpha[t, u] = torch.stack(ways).logsumexp(dim=0)
    expected = -alpha[5, 3]
    loss = transducer.rnnt_loss_smoothed(lm, am, symbols, BLANK, lm_scale, am_scale, reduction="none", backend="torch")
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    for grad, expected_grad in zip(
        torch.autograd.grad(loss.sum(), (lm, am)), torch.autograd.grad(expected.sum(), (lm, am)), strict=True
    ):
        torch.testing.assert_close(grad, expected_grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rnnt_type", RNNT_TYPES)
def test_occupations_are_the_probabilities_of_the_arcs(rnnt_type: str) -> None:
    y_lens, x_lens = [4, 1], [6, 3]
    lm, am, symbols = random(2, 5, UNITS), random(2, 6, UNITS, seed=1), make_symbols(2, 4)
    loss, (px_grad, py_grad) = transducer.rnnt_loss_simple(
        lm,
        am,
        symbols,
        BLANK,
        make_boundary(y_lens, x_lens),
        rnnt_type,
        reduction="none",
        return_grad=True,
        backend="torch",
    )
    assert loss.requires_grad
    assert not px_grad.requires_grad
    assert px_grad.shape == (2, 4, 7 if rnnt_type == "regular" else 6)
    assert py_grad.shape == (2, 5, 6)
    for n, (num_symbols, num_frames) in enumerate(zip(y_lens, x_lens, strict=True)):
        emitted = px_grad[n].sum(dim=1)  # each symbol is emitted once
        torch.testing.assert_close(emitted[:num_symbols], torch.ones(num_symbols, dtype=emitted.dtype))
        left = py_grad[n].sum(dim=0)  # each frame is left once
        if rnnt_type != "regular":
            left = left + px_grad[n].sum(dim=0)
        torch.testing.assert_close(left[:num_frames], torch.ones(num_frames, dtype=left.dtype))
        assert not px_grad[n, num_symbols:].any()
        assert not py_grad[n, :, num_frames:].any()


@pytest.mark.parametrize("symbol_takes_frame", [False, True])
def test_lattice_may_begin_anywhere_and_ignores_everything_outside(symbol_takes_frame: bool) -> None:
    """A boundary cuts a lattice out: same score and gradient as the piece, even if NaN lies around."""
    s_begin, t_begin, s_end, t_end = 1, 2, 3, 6
    px = random(2, 5, 8 if symbol_takes_frame else 9)
    py = random(2, 6, 8, seed=1)
    px_end = t_end if symbol_takes_frame else t_end + 1
    px_piece = px[:, s_begin:s_end, t_begin:px_end].detach().clone().requires_grad_()
    py_piece = py[:, s_begin : s_end + 1, t_begin:t_end].detach().clone().requires_grad_()
    expected, _ = lattice_scores(px_piece, py_piece)
    expected.sum().backward()

    with torch.no_grad():
        px_around, py_around = torch.full_like(px, torch.nan), torch.full_like(py, torch.nan)
        px_around[:, s_begin:s_end, t_begin:px_end] = px_piece
        py_around[:, s_begin : s_end + 1, t_begin:t_end] = py_piece
    px_around.requires_grad_()
    py_around.requires_grad_()
    scores, _ = lattice_scores(px_around, py_around, torch.tensor([[s_begin, t_begin, s_end, t_end]]).repeat(2, 1))
    scores.sum().backward()

    assert px_piece.grad is not None
    assert py_piece.grad is not None
    torch.testing.assert_close(scores, expected)
    px_expected, py_expected = torch.zeros_like(px), torch.zeros_like(py)
    px_expected[:, s_begin:s_end, t_begin:px_end] = px_piece.grad
    py_expected[:, s_begin : s_end + 1, t_begin:t_end] = py_piece.grad
    torch.testing.assert_close(px_around.grad, px_expected)
    torch.testing.assert_close(py_around.grad, py_expected)


@pytest.mark.parametrize("rnnt_type", ["modified", "constrained"])
def test_utterance_without_alignment_is_infinite_and_leaves_the_others_alone(rnnt_type: str) -> None:
    logits, symbols = random(2, 5, 5, UNITS), make_symbols(2, 4)
    boundary = make_boundary([4, 4], [3, 5])
    loss = transducer.rnnt_loss(logits, symbols, BLANK, boundary, rnnt_type, reduction="none", backend="torch")
    alone = transducer.rnnt_loss(logits[1:], symbols[1:], BLANK, boundary[1:], rnnt_type, backend="torch")
    assert loss[0] == torch.inf
    torch.testing.assert_close(loss[1], alone)
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    (grad_alone,) = torch.autograd.grad(alone, logits)
    torch.testing.assert_close(grad, grad_alone)


def test_not_a_number_reaches_the_loss() -> None:
    logits, symbols = random(2, 4, 3, UNITS), make_symbols(2, 2)
    with torch.no_grad():
        logits[0, 1, 1, 0] = torch.nan
    loss = transducer.rnnt_loss(logits, symbols, BLANK, reduction="none", backend="torch")
    assert loss.isnan().tolist() == [True, False]


def test_long_utterances_keep_their_precision_in_float32() -> None:
    """Scores near -1000 nats: gradients must not inherit their absolute rounding error."""
    logits, symbols = random(2, 300, 41, UNITS), make_symbols(2, 40)
    single = logits.detach().float().requires_grad_()
    loss = transducer.rnnt_loss(logits, symbols, BLANK, reduction="sum", backend="torch")
    single_loss = transducer.rnnt_loss(single, symbols, BLANK, reduction="sum", backend="torch")
    (grad,), (single_grad,) = torch.autograd.grad(loss, logits), torch.autograd.grad(single_loss, single)
    torch.testing.assert_close(single_loss.double(), loss, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(single_grad.double(), grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_are_float32_under_autocast(dtype: torch.dtype) -> None:
    lm = random(2, 4, UNITS, dtype=torch.float32)
    am = random(2, 9, UNITS, seed=1, dtype=torch.float32)
    symbols = make_symbols(2, 3)
    half = (am.unsqueeze(2) + lm.unsqueeze(1)).to(dtype)
    ranges = torch.arange(4).expand(2, 9, 4)
    expected = transducer.rnnt_loss(half.float(), symbols, BLANK, backend="torch")
    simple = transducer.rnnt_loss_simple(lm, am, symbols, BLANK, backend="torch")
    with torch.autocast("cpu", dtype=dtype):
        loss = transducer.rnnt_loss(half, symbols, BLANK, backend="torch")
        pruned = transducer.rnnt_loss_pruned(half, symbols, ranges, BLANK, backend="torch")
        simple_autocast = transducer.rnnt_loss_simple(lm, am, symbols, BLANK, backend="torch")
        smoothed = transducer.rnnt_loss_smoothed(lm.to(dtype), am.to(dtype), symbols, BLANK, backend="torch")
    assert {x.dtype for x in (loss, pruned, simple_autocast, smoothed)} == {torch.float32}
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(pruned, expected)
    torch.testing.assert_close(simple_autocast, simple, rtol=0.0, atol=0.0)
    (grad,) = torch.autograd.grad(loss, half, retain_graph=True)
    (expected_grad,) = torch.autograd.grad(expected, half)
    assert grad.dtype == dtype
    torch.testing.assert_close(grad, expected_grad)


def test_logits_of_more_than_one_chunk_give_the_gradient_of_log_softmax() -> None:
    logits = random(2, 100, 6, 300, dtype=torch.float32)
    symbols = torch.randint(1, 300, (2, 5), generator=torch.Generator().manual_seed(0))
    assert logits.numel() > 1 << 17
    loss = transducer.rnnt_loss(logits, symbols, 0, reduction="sum", backend="torch")
    (grad,) = torch.autograd.grad(loss, logits)
    # The same lattice over log-probabilities that torch normalised and gathered.
    log_probs = logits.log_softmax(dim=-1)
    px = log_probs[:, :, :-1].gather(3, symbols.reshape(2, 1, 5, 1).expand(2, 100, 5, 1))[..., 0]
    px = torch.cat([px, torch.full((2, 1, 5), -torch.inf)], dim=1)
    expected = -lattice_scores(px.transpose(1, 2), log_probs[..., 0].transpose(1, 2))[0].sum()
    (expected_grad,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-4, atol=1e-6)


def test_reductions() -> None:
    logits, symbols = random(3, 4, 3, UNITS), make_symbols(3, 2)
    none = transducer.rnnt_loss(logits, symbols, BLANK, reduction="none", backend="torch")
    assert none.shape == (3,)
    torch.testing.assert_close(transducer.rnnt_loss(logits, symbols, BLANK, backend="torch"), none.mean())
    total = transducer.rnnt_loss(logits, symbols, BLANK, reduction="sum", backend="torch")
    torch.testing.assert_close(total, none.sum())


@pytest.mark.parametrize(
    "options", [{"rnnt_type": "irregular"}, {"reduction": "median"}, {"backend": "numba"}], ids=str
)
def test_unknown_options_are_refused_by_name(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(options.values()))):
        transducer.rnnt_loss(random(1, 4, 3, UNITS), make_symbols(1, 2), BLANK, **{"backend": "torch", **options})


@pytest.mark.parametrize("row", [[0, 0, 3, 4], [0, 0, 2, 5], [0, 3, 2, 2], [-1, 0, 2, 4]])
def test_boundary_outside_of_the_lattice_is_refused(row: list[int]) -> None:
    with pytest.raises(ValueError, match="utterance 1"):
        transducer.rnnt_loss(
            random(2, 4, 3, UNITS),
            make_symbols(2, 2),
            BLANK,
            torch.tensor([[0, 0, 2, 4], row]),
            backend="torch",
        )


def test_backend_k2_without_k2_says_what_to_install() -> None:
    reason = transducer.k2_import_error()
    if reason is None:
        pytest.skip("k2 imports here")
    assert transducer.resolve_backend("auto") == "torch"
    with pytest.raises(UserError, match=r"install_k2\.sh"):
        transducer.rnnt_loss(random(1, 4, 3, UNITS), make_symbols(1, 2), BLANK, backend="k2")
