"""Distillation against plain float64 loops over nodes, fractions by hand, finite differences and torch's kl_div."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from slimasr.losses import transducer
from slimasr.losses.distillation import (
    Divergence,
    TeacherClasses,
    distil,
    distillation_loss,
    target_blank_classes,
    top_classes,
)

NODES = (2, 3, 2)  # utterances, frames, positions
UNITS = 7
UNCLIPPED = 1e30
KL = Divergence("kl")


def alpha(a: float, clip: float = UNCLIPPED) -> Divergence:
    """The one D_a."""
    return Divergence("alpha", alpha_min=a, alpha_max=a, iw_clip=clip)


def random_logits(seed: int, scale: float = 2.0, nodes: tuple[int, ...] = NODES, units: int = UNITS) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*nodes, units, generator=generator, dtype=torch.float64)


def every_node(logits: Tensor) -> Tensor:
    return torch.ones(logits.shape[:-1], dtype=torch.bool)


def gradient(loss: Tensor, logits: Tensor) -> Tensor:
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    return grad


def class_probs(logits: Tensor, classes: list[int]) -> list[Tensor]:
    """Probabilities of the classes and of the rest at one node, from the definition."""
    probs = logits.double().softmax(dim=0)
    rest = [v for v in range(logits.shape[0]) if v not in classes]
    return [probs[v] for v in classes] + ([probs[rest].sum()] if rest else [])


def divergence_by_loops(logits: Tensor, teacher_logits: Tensor, index: Tensor, valid: Tensor, a: float) -> Tensor:
    """(N,) sums of D_a without clipping; 1 is KL(p || q)."""
    total = [logits.new_zeros(()) for _ in range(logits.shape[0])]
    for n, t, s in valid.nonzero().tolist():
        classes = [v for v in index[n, t, s].tolist() if v >= 0]
        p = class_probs(teacher_logits[n, t, s], classes)
        q = class_probs(logits[n, t, s], classes)
        if a == 1.0:
            terms = [p_k * (p_k / q_k).log() for p_k, q_k in zip(p, q, strict=True)]
        elif a == 0.0:
            terms = [q_k * (q_k / p_k).log() for p_k, q_k in zip(p, q, strict=True)]
        else:
            terms = [(q_k * (p_k / q_k) ** a - q_k) / (a * (a - 1)) for p_k, q_k in zip(p, q, strict=True)]
        total[n] = total[n] + torch.stack(terms).sum()
    return torch.stack(total)


@pytest.mark.parametrize("num_tokens", [1, 3, UNITS, UNITS + 2])
def test_top_classes_are_the_sorted_softmax(num_tokens: int) -> None:
    logits = random_logits(0)
    teacher = top_classes(logits, num_tokens)
    kept = min(num_tokens, UNITS)
    assert teacher.index.shape == (*NODES, kept)
    for n, t, s in every_node(logits).nonzero().tolist():
        probs = logits[n, t, s].softmax(dim=0)
        order = sorted(range(UNITS), key=lambda v: -float(probs[v]))
        assert teacher.index[n, t, s].tolist() == order[:kept]
        expected = [probs[v] for v in order[:kept]] + [probs[order[kept:]].sum()]
        torch.testing.assert_close(teacher.log_probs[n, t, s].exp(), torch.stack(expected))
    assert bool(teacher.log_probs[..., -1].isneginf().all()) == (num_tokens >= UNITS)


def test_required_tokens_replace_the_least_likely_ones() -> None:
    logits = torch.tensor([1.0, 5.0, 4.0, 3.0, 2.0]).expand(1, 1, 5, 5)
    required = torch.tensor([[0, -1], [-1, -1], [0, 4], [3, 0], [2, 2]]).view(1, 1, 5, 2)
    teacher = top_classes(logits, 3, required)
    chosen = [sorted(classes) for classes in teacher.index[0, 0].tolist()]
    assert chosen == [[0, 1, 2], [1, 2, 3], [0, 1, 4], [0, 1, 3], [1, 2, 3]]
    probs = logits[0, 0, 0].softmax(dim=0)
    of_classes = probs[teacher.index[0, 0]]
    torch.testing.assert_close(teacher.log_probs[0, 0, :, :3].exp(), of_classes)
    torch.testing.assert_close(teacher.log_probs[0, 0, :, 3].exp(), 1 - of_classes.sum(dim=1))
    assert top_classes(logits, 1, required).index.shape[-1] == 2  # room for all that are required


def test_target_and_blank_behind_the_last_token_are_blank_and_rest() -> None:
    logits = random_logits(1, nodes=(1, 1, 2))
    teacher = target_blank_classes(logits, torch.tensor([[[3, -1]]]), blank=2)
    probs = logits[0, 0].softmax(dim=1)
    assert teacher.index.tolist() == [[[[3, 2], [-1, 2]]]]
    inside, behind = teacher.log_probs[0, 0].exp()
    torch.testing.assert_close(inside, torch.stack([probs[0, 3], probs[0, 2], 1 - probs[0, 3] - probs[0, 2]]))
    torch.testing.assert_close(behind, torch.stack([torch.zeros_like(probs[1, 2]), probs[1, 2], 1 - probs[1, 2]]))


def classes_of(kind: str, teacher_logits: Tensor) -> TeacherClasses:
    if kind == "target_blank":
        next_tokens = torch.tensor([[[3, -1], [3, 6], [-1, -1]], [[1, 2], [1, 1], [5, -1]]])
        return target_blank_classes(teacher_logits, next_tokens)
    return top_classes(teacher_logits, UNITS if kind == "all" else 3)


@pytest.mark.parametrize("kind", ["top", "all", "target_blank"])
@pytest.mark.parametrize("a", [1.0, 0.0, -1.0, 0.5, 2.0, -0.5])
def test_unclipped_divergences_match_loops_over_nodes(kind: str, a: float) -> None:
    teacher_logits, logits = random_logits(2), random_logits(3).requires_grad_()
    valid = torch.tensor([[[True, True], [True, False], [True, True]], [[True, True], [False, False], [True, False]]])
    teacher = classes_of(kind, teacher_logits)
    expected = divergence_by_loops(logits, teacher_logits, teacher.index, valid, a)
    weights = torch.tensor([1.0, -2.0], dtype=torch.float64)
    expected_grad = gradient(weights * expected, logits)
    for divergence in [alpha(a), KL] if a == 1.0 else [alpha(a)]:
        loss, value = distillation_loss(logits, teacher, valid, divergence)
        torch.testing.assert_close(value, expected.detach())
        assert not value.requires_grad
        # nothing is cut, so the score function's gradient is the true one
        torch.testing.assert_close(gradient(weights * loss, logits), expected_grad)


def test_kl_passes_gradcheck() -> None:
    logits = random_logits(4, nodes=(2, 2, 2)).requires_grad_()
    teacher = top_classes(random_logits(5, nodes=(2, 2, 2)), 3)
    assert torch.autograd.gradcheck(lambda x: distillation_loss(x, teacher, every_node(x), KL)[0], (logits,))


@pytest.mark.parametrize("a", [1.0, 0.0, -1.0, 0.5])
def test_surrogate_gradient_is_the_finite_difference_of_the_unclipped_value(a: float) -> None:
    logits = random_logits(6, nodes=(1, 2, 1)).requires_grad_()
    teacher = top_classes(random_logits(7, nodes=(1, 2, 1)), 3)
    valid = every_node(logits)
    grad = gradient(distillation_loss(logits, teacher, valid, alpha(a))[0], logits)
    step = 1e-6
    for place in range(logits.numel()):
        shift = torch.zeros(logits.numel(), dtype=torch.float64)
        shift[place] = step
        shift = shift.view_as(logits)
        above = distillation_loss(logits.detach() + shift, teacher, valid, alpha(a))[1]
        below = distillation_loss(logits.detach() - shift, teacher, valid, alpha(a))[1]
        torch.testing.assert_close(grad.flatten()[place], (above - below).sum() / (2 * step), rtol=1e-6, atol=1e-8)


def test_kl_over_all_tokens_is_torchs() -> None:
    teacher_logits, logits = random_logits(8), random_logits(9).requires_grad_()
    loss, value = distillation_loss(logits, top_classes(teacher_logits, UNITS), every_node(logits), KL)
    expected = functional.kl_div(
        logits.log_softmax(dim=-1), teacher_logits.log_softmax(dim=-1), reduction="none", log_target=True
    ).sum(dim=(1, 2, 3))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(gradient(loss, logits), gradient(expected, logits))


# Three classes: tokens 0 and 1, and the rest, tokens 2 and 3, which share its probability 1 : 2. The last ratio is the
# only one that a clip of 2 cuts.
TEACHER = [Fraction(1, 2), Fraction(2, 5), Fraction(1, 10)]
STUDENT = [Fraction(1, 4), Fraction(1, 4), Fraction(1, 2)]


def one_node(probs: list[Fraction]) -> Tensor:
    tokens = [probs[0], probs[1], probs[2] / 3, probs[2] * 2 / 3]
    return torch.tensor([math.log(p) for p in tokens], dtype=torch.float64).view(1, 1, 1, 4)


def gradient_by_hand(weights: list[Fraction]) -> list[Fraction]:
    """sum_k w_k d log q_k / d z, from d log q_k / d z_v = [v in k] q_v / q_k - q_v."""
    total = sum(weights, Fraction(0))
    q = [STUDENT[0], STUDENT[1], STUDENT[2] / 3, STUDENT[2] * 2 / 3]
    class_of = [0, 1, 2, 2]
    return [weights[k] * q[v] / STUDENT[k] - total * q[v] for v, k in enumerate(class_of)]


def check_one_node(divergence: Divergence, value: float, weights: list[Fraction]) -> None:
    """Value, gradient and the surrogate sum_k w_k log q_k of the node above."""
    logits = one_node(STUDENT).requires_grad_()
    teacher = top_classes(one_node(TEACHER), 2)
    assert teacher.index.tolist() == [[[[0, 1]]]]
    loss, found = distillation_loss(logits, teacher, every_node(logits), divergence)
    grad = torch.tensor([float(g) for g in gradient_by_hand(weights)], dtype=torch.float64)
    torch.testing.assert_close(gradient(loss, logits).flatten(), grad)
    torch.testing.assert_close(found, torch.tensor([value], dtype=torch.float64))
    surrogate = sum(float(w) * math.log(q) for w, q in zip(weights, STUDENT, strict=True))
    torch.testing.assert_close(loss.detach(), torch.tensor([surrogate], dtype=torch.float64))


def test_clipped_alpha_minus_one_by_hand() -> None:
    # 1/t = 1/2, 5/8, 5 cut to 2: D = ((1/8 + 5/32 + 1) - 1) / 2 = 9/64; weights q (min(1/t, 2) - 1/2)
    weights = [Fraction(0), Fraction(1, 32), Fraction(3, 4)]
    check_one_node(alpha(-1.0, clip=2.0), 9 / 64, weights)
    assert gradient_by_hand(weights)[0] == -Fraction(25, 128)


def test_clipped_alpha_two_by_hand() -> None:
    # t^2 = 4 cut to 2, 64/25 cut to 2, 1/25: D = (1/2 + 1/2 + 1/50 - 1) / 2 = 1/100; rho = min(t^2, 2) / 2 + 1/2
    check_one_node(alpha(2.0, clip=2.0), 1 / 100, [-Fraction(3, 8), -Fraction(3, 8), -Fraction(13, 50)])


def test_clipped_alpha_zero_by_hand() -> None:
    # t = 2 and 8/5 cut to 3/2, 1/5: D = -(log(3/2) / 2 + log(1/5) / 2) = log(10/3) / 2; rho = log min(t, 3/2) - 1
    cut = Fraction(math.log(3 / 2)), Fraction(math.log(1 / 5))
    weights = [-(cut[0] - 1) / 4, -(cut[0] - 1) / 4, -(cut[1] - 1) / 2]
    check_one_node(alpha(0.0, clip=1.5), math.log(10 / 3) / 2, weights)


def test_alpha_one_is_cross_entropy_with_the_teacher_whatever_the_clip() -> None:
    value = sum(float(p) * math.log(p / q) for p, q in zip(TEACHER, STUDENT, strict=True))
    check_one_node(alpha(1.0, clip=0.1), value, [-p for p in TEACHER])


def test_the_larger_clipped_value_is_chosen_at_each_node() -> None:
    # KL(p || q) = 0.373...; D_-1 = ((1/8 + 5/32 + 5/2) - 1) / 2 = 57/64 uncut, and 9/64 cut at 2
    kl = sum(float(p) * math.log(p / q) for p, q in zip(TEACHER, STUDENT, strict=True))
    assert 9 / 64 < kl < 57 / 64
    check_one_node(Divergence("alpha", iw_clip=2.0), kl, [-p for p in TEACHER])
    uncut = [Fraction(0), Fraction(1, 32), Fraction(9, 4)]
    check_one_node(Divergence("alpha", iw_clip=5.0), 57 / 64, uncut)
    # both kinds of node in one batch: seen from the other side, KL is the larger one
    logits = torch.cat([one_node(STUDENT), one_node(TEACHER)], dim=2).requires_grad_()
    other = torch.cat([one_node(TEACHER), one_node(STUDENT)], dim=2)
    teacher = target_blank_classes(other, torch.ones(1, 1, 2, dtype=torch.int64))
    value = distillation_loss(logits, teacher, every_node(logits), Divergence("alpha", iw_clip=5.0))[1]
    backwards = sum(float(q) * math.log(q / p) for p, q in zip(TEACHER, STUDENT, strict=True))
    minus_one = sum(p * min(p / q, 5) for p, q in zip(TEACHER, STUDENT, strict=True)) / 2 - Fraction(1, 2)
    assert backwards > minus_one
    torch.testing.assert_close(value, torch.tensor([57 / 64 + backwards], dtype=torch.float64))


DIVERGENCES = [KL, Divergence("alpha"), alpha(0.0, 5.0), alpha(0.5, 5.0), Divergence("alpha", -2.0, 0.0)]


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=str)
@pytest.mark.parametrize("num_tokens", [2, UNITS])
@pytest.mark.parametrize("broken", [math.inf, -math.inf, math.nan])
def test_invalid_nodes_add_exactly_nothing(divergence: Divergence, num_tokens: int, broken: float) -> None:
    teacher_logits, logits = random_logits(10), random_logits(11)
    valid = every_node(logits)
    valid[0, 2] = valid[1, 0, 1] = False
    clean = distillation_loss(logits, top_classes(teacher_logits, num_tokens), valid, divergence)
    teacher_logits[~valid] = broken
    logits[~valid] = broken
    logits.requires_grad_()
    loss, value = distillation_loss(logits, top_classes(teacher_logits, num_tokens), valid, divergence)
    torch.testing.assert_close((loss.detach(), value), clean)
    grad = gradient(loss, logits)
    assert not grad[~valid].any()
    assert grad[valid].isfinite().all()
    assert grad[valid].abs().sum(dim=1).gt(0).all()


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_extreme_logits_keep_values_and_gradients_finite(divergence: Divergence, dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, 0, -1e4, 0], [0, 1e4, 0, 0], [0, 0, 0, 1e4], [-1e4, -1e4, -1e4, -1e4]])
    logits = logits.to(dtype).view(4, 1, 1, 4)
    teacher_logits = torch.cat([logits, logits.flip(0), logits.roll(1, 0)])
    logits = logits.repeat(3, 1, 1, 1).requires_grad_()
    for num_tokens in (1, 2, 4):
        teacher = top_classes(teacher_logits, num_tokens)
        loss, value = distillation_loss(logits, teacher, every_node(logits), divergence)
        assert loss.isfinite().all()
        assert value.isfinite().all()
        assert value[:4].abs().max() == 0.0  # teacher and student agree
        grad = gradient(loss, logits)
        assert grad.dtype == dtype
        assert grad.isfinite().all()
        assert grad.float().sum(dim=-1).abs().max() <= 1e-3 * max(1.0, float(grad.float().abs().max()))


def test_kl_of_certain_and_wrong_is_the_difference_of_logits() -> None:
    teacher = top_classes(torch.tensor([0.0, 1e4, 0.0]).view(1, 1, 1, 3), 1)
    logits = torch.tensor([1e4, 0.0, 0.0]).view(1, 1, 1, 3).requires_grad_()
    loss, _ = distillation_loss(logits, teacher, every_node(logits), KL)
    assert loss.tolist() == [1e4]
    assert gradient(loss, logits).flatten().tolist() == [1.0, -1.0, 0.0]


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=str)
def test_tokens_excluded_by_both_have_zero_gradient(divergence: Divergence) -> None:
    teacher_logits, logits = random_logits(12), random_logits(13)
    teacher_logits[..., 4:] = -math.inf
    logits[..., 4:] = -math.inf
    small_teacher, small = top_classes(teacher_logits[..., :4], 4), logits[..., :4].clone().requires_grad_()
    expected = distillation_loss(small, small_teacher, every_node(logits), divergence)
    logits.requires_grad_()
    for num_tokens in (4, 5, UNITS):  # excluded ones in the rest alone, in both, among the classes alone
        found = distillation_loss(logits, top_classes(teacher_logits, num_tokens), every_node(logits), divergence)
        torch.testing.assert_close(found, expected)
        grad = gradient(found[0], logits)
        assert not grad[..., 4:].any()
        (expected_grad,) = torch.autograd.grad(expected[0].sum(), small, retain_graph=True)
        torch.testing.assert_close(grad[..., :4], expected_grad)


@pytest.mark.parametrize("divergence", [KL, Divergence("alpha")], ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(divergence: Divergence, dtype: torch.dtype) -> None:
    teacher_logits, logits = random_logits(14).to(dtype), random_logits(15).to(dtype).requires_grad_()
    full = logits.detach().float().requires_grad_()
    expected, expected_value = distillation_loss(
        full, top_classes(teacher_logits.float(), 3), every_node(logits), divergence
    )
    with torch.autocast("cpu", dtype=dtype):
        teacher = top_classes(teacher_logits, 3)
        loss, value = distillation_loss(logits, teacher, every_node(logits), divergence)
    assert teacher.log_probs.dtype == loss.dtype == value.dtype == torch.float32
    torch.testing.assert_close((loss, value), (expected, expected_value))
    grad = gradient(loss, logits)
    assert grad.dtype == dtype
    torch.testing.assert_close(grad, gradient(expected, full).to(dtype))


@pytest.mark.parametrize("divergence", [KL, Divergence("alpha")], ids=str)
def test_float32_is_close_to_float64_with_a_large_vocabulary(divergence: Divergence) -> None:
    nodes, units = (1, 9, 5), 4096  # more rows than are worked on at once
    teacher_logits = random_logits(16, nodes=nodes, units=units)
    logits = (teacher_logits + random_logits(17, 0.5, nodes, units)).requires_grad_()
    single = logits.detach().float().requires_grad_()
    teacher = top_classes(teacher_logits, 10)
    loss, value = distillation_loss(logits, teacher, every_node(logits), divergence)
    found = distillation_loss(single, top_classes(teacher_logits.float(), 10), every_node(logits), divergence)
    torch.testing.assert_close(found, (loss.float(), value.float()), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient(found[0], single), gradient(loss, logits).float(), rtol=1e-4, atol=1e-7)
    expected = divergence_by_loops(logits.detach(), teacher_logits, teacher.index, every_node(logits), 1.0)
    if divergence is KL:
        torch.testing.assert_close(value, expected)


def test_one_node_and_cut_teachers_are_sums_of_the_whole() -> None:
    teacher_logits, logits = random_logits(18), random_logits(19)
    teacher, valid = top_classes(teacher_logits, 3), every_node(logits)
    whole = distillation_loss(logits, teacher, valid, Divergence("alpha"))
    total = torch.zeros(2, NODES[0], dtype=torch.float64)
    for n, t, s in valid.nonzero().tolist():
        node = (slice(n, n + 1), slice(t, t + 1), slice(s, s + 1))
        opinion = TeacherClasses(teacher.index[node], teacher.log_probs[node])
        parts = distillation_loss(logits[node], opinion, valid[node], Divergence("alpha"))
        total[:, n] += torch.cat(parts)
    torch.testing.assert_close(torch.stack(whole), total)


def test_backward_keeps_no_second_copy_of_the_logits() -> None:
    logits = random_logits(20, nodes=(2, 8, 3), units=500).float().requires_grad_()
    teacher = top_classes(logits + 1.0, 10)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        distillation_loss(logits, teacher, every_node(logits), Divergence("alpha"))
    large = [x for x in kept if x.numel() >= logits.numel()]
    assert [x.data_ptr() for x in large] == [logits.data_ptr()]
    assert sum(x.numel() for x in kept) - logits.numel() < 25 * logits[..., 0].numel()


def transducer_loss(logits: Tensor) -> Tensor:
    """Of the full lattice, for two utterances of 3 and 2 frames with 1 label each."""
    boundary = torch.tensor([[0, 0, 1, 3], [0, 0, 1, 2]])
    symbols = torch.tensor([[3], [1]])
    return transducer.rnnt_loss(logits, symbols, 0, boundary, reduction="none", backend="torch")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_passing_logits_on_adds_the_gradients_up(dtype: torch.dtype) -> None:
    teacher, logits = top_classes(random_logits(21), 3), random_logits(22).to(dtype).requires_grad_()
    valid = every_node(logits)
    valid[1, 2] = False
    loss, value = distillation_loss(logits, teacher, valid, Divergence("alpha"))
    passed_on, same_loss, same_value = distil(logits, teacher, valid, Divergence("alpha"))
    assert passed_on.equal(logits)
    torch.testing.assert_close((same_loss, same_value), (loss, value), rtol=0, atol=0)
    expected = gradient(transducer_loss(logits) + 2.0 * loss, logits)
    torch.testing.assert_close(gradient(transducer_loss(passed_on) + 2.0 * same_loss, logits), expected)
    alone, _ = distillation_loss(logits, teacher, valid, Divergence("alpha"))
    passed_on, loss, _ = distil(logits, teacher, valid, Divergence("alpha"))
    of_sum = gradient(passed_on.sum() + loss.sum(), logits)  # a gradient expanded from one number
    torch.testing.assert_close(of_sum, 1.0 + gradient(alone, logits))
    passed_on, _, _ = distil(logits, teacher, valid, Divergence("alpha"))
    torch.testing.assert_close(
        gradient(transducer_loss(passed_on), logits), gradient(transducer_loss(logits), logits), rtol=0, atol=0
    )


def test_one_buffer_holds_both_gradients() -> None:
    teacher, logits = top_classes(random_logits(23), 3), random_logits(24).requires_grad_()
    passed_on, loss, _ = distil(logits, teacher, every_node(logits), KL)
    buffers: list[int] = []
    passed_on.register_hook(lambda grad: buffers.append(grad.data_ptr()))
    logits.register_hook(lambda grad: buffers.append(grad.data_ptr()))
    gradient(transducer_loss(passed_on) + loss, logits)
    assert len(buffers) == 2
    assert buffers[0] == buffers[1]
