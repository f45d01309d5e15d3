"""In-place sampled distillation: a student learns from its teacher at the nodes of the transducer's lattice (paper 2).

At each node, few classes are distinguished: j tokens, and the rest of the vocabulary as one class. This needs j + 1 log
probabilities of the teacher instead of V; `slimasr.losses.divergence` compares them. The probability of the rest is a
sum over its tokens in the log domain. Everything is computed in float32 (float64 for float64 logits).

Memory, for M = N T S nodes and 4-byte floats. Computed by autograd over the full vocabulary, distillation keeps the
teacher's and the student's log probabilities, at least 2 * 4 M V bytes, and needs as much again for intermediate
products. Here it keeps (12 j + 4) M bytes for the teacher and (4 j + 9) M for the backward pass, besides the logits,
which the transducer loss keeps anyway. The joiner's backward pass needs the gradient of the logits, 4 M V bytes.
Autograd would temporarily hold one such gradient per loss; `distil` avoids the second one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from slimasr.losses.chunks import row_chunks
from slimasr.losses.divergence import Divergence

__all__ = ["Divergence", "TeacherClasses", "distil", "distillation_loss", "target_blank_classes", "top_classes"]


@dataclass(frozen=True)
class TeacherClasses:
    """The tokens that each node distinguishes, and the teacher's probabilities of them and of the rest.

    Attributes:
        index: (N, T, S, j) int64 tokens, all different; -1 where a node has fewer than j.
        log_probs: (N, T, S, j + 1) log probabilities, float32 (float64 for float64 logits); the last one is that of the
            rest. ``-inf`` where ``index`` is -1, and for a rest without any token.
    """

    index: Tensor
    log_probs: Tensor


@torch.no_grad()
def top_classes(logits: Tensor, num_kd_tokens: int, required: Tensor | None = None) -> TeacherClasses:
    """Distinguish the tokens that are most probable for the teacher.

    Args:
        logits: (N, T, S, V) the teacher's raw scores.
        num_kd_tokens: number of tokens, limited to V and raised to r.
        required: (N, T, S, r) int64 tokens that must be included, -1 for none; they replace the least probable ones.
    """
    nodes = logits.shape[:-1]
    assert required is None or required.shape[:-1] == nodes, (required.shape, logits.shape)
    flat = logits.reshape(-1, logits.shape[-1])
    wanted = None if required is None else required.reshape(flat.shape[0], -1)
    num_required = 0 if wanted is None else wanted.shape[1]
    num_kd_tokens = min(max(num_kd_tokens, num_required), flat.shape[1])
    index = flat.new_empty((flat.shape[0], num_kd_tokens), dtype=torch.int64)
    for rows in row_chunks(flat):
        scores = flat[rows]
        if wanted is not None:
            # With an infinite score, topk selects the required tokens first. The logits stay as they are.
            scores = _fill_classes(scores.clone(), wanted[rows], torch.inf)
        index[rows] = scores.topk(num_kd_tokens, dim=1).indices
    return _classes(flat, index, nodes)


@torch.no_grad()
def target_blank_classes(logits: Tensor, next_tokens: Tensor, blank: int = 0) -> TeacherClasses:
    """Distinguish the next token of the reference, blank and the rest (Panchapagesan et al. 2021).

    Args:
        logits: (N, T, S, V) the teacher's raw scores.
        next_tokens: (N, T, S) int64, not blank; -1 after the last token, where blank and the rest are the only classes.
        blank: index of the blank unit.
    """
    nodes = logits.shape[:-1]
    assert next_tokens.shape == nodes, (next_tokens.shape, logits.shape)
    # (N, T, S, 2): the next token comes first and may be -1; blank is always present.
    index = torch.stack([next_tokens, torch.full_like(next_tokens, blank)], dim=-1)
    return _classes(logits.reshape(-1, logits.shape[-1]), index.view(-1, 2), nodes)


def distillation_loss(
    logits: Tensor, teacher: TeacherClasses, valid: Tensor, divergence: Divergence
) -> tuple[Tensor, Tensor]:
    """Compute the student's divergence from its teacher, summed over each utterance's nodes and in nats.

    Args:
        logits: (N, T, S, V) the student's raw scores.
        teacher: the teacher's classes at the same nodes.
        valid: (N, T, S) bool: nodes that count. At the others, all values may be arbitrary, also non-finite.
        divergence: the divergence between the two.

    Returns:
        (N,) losses to differentiate with respect to ``logits`` only; for the alpha divergence, this is the surrogate.
        (N,) values of the divergence itself with clipped ratios, without gradient.
    """
    _, loss, value = distil(logits, teacher, valid, divergence)
    return loss, value


def distil(
    logits: Tensor, teacher: TeacherClasses, valid: Tensor, divergence: Divergence
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `distillation_loss`, and return the logits for the transducer loss, so that both share one gradient.

    The gradient of the returned logits is modified in place, so use them only for a loss whose backward pass allocates
    a new gradient (all of `slimasr.losses.transducer` do; `sum()` does not).

    Returns:
        (N, T, S, V) the logits; losses and values as in `distillation_loss`.
    """
    nodes = logits.shape[:-1]
    assert valid.shape == nodes, (valid.shape, logits.shape)
    assert valid.dtype == torch.bool, valid.dtype
    assert teacher.index.shape[:-1] == teacher.log_probs.shape[:-1] == nodes, (teacher.index.shape, logits.shape)
    assert teacher.log_probs.shape[-1] == teacher.index.shape[-1] + 1, (teacher.index.shape, teacher.log_probs.shape)
    with torch.autocast(device_type=logits.device.type, enabled=False):
        passed_on, surrogate, value = _Distillation.apply(
            logits.reshape(-1, logits.shape[-1]),
            teacher.index.flatten(0, -2),
            teacher.log_probs.flatten(0, -2),
            valid.reshape(-1),
            divergence,
        )
    surrogate = surrogate.view(nodes)
    value = value.view(nodes)
    return passed_on.view(logits.shape), surrogate.sum(dim=(1, 2)), value.sum(dim=(1, 2))


class _Distillation(torch.autograd.Function):
    """Map (M, V) logits and the teacher's (M, j) classes to these logits, (M,) surrogates and (M,) divergences.

    With w_k the surrogate's derivative by log q_k, W = sum_k w_k, and r the rest, the gradient by the logit z_v is

        w_v - W q_v                             for a class v
        (w_r - W q_r) exp(z_v - log sum_r exp)  for a token of the rest

    so only one number per class and node must be kept.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, index: Tensor, teacher: Tensor, valid: Tensor, divergence: Divergence
    ) -> tuple[Tensor, Tensor, Tensor]:
        student, log_rest = _class_log_probs(logits, index)
        surrogate, value, weights = divergence.evaluate(teacher.to(student.dtype), student)
        # Multiplying by the mask would keep the NaN of padding, since 0 * NaN is NaN.
        surrogate = surrogate.masked_fill(~valid, 0.0)
        value = value.masked_fill(~valid, 0.0)
        ctx.mark_non_differentiable(value)
        # Outputs without a gradient get None in the backward pass instead of an (M, V) tensor of zeros.
        ctx.set_materialize_grads(False)
        if ctx.needs_input_grad[0]:
            # (M, j + 1): w - W q, of the classes and, in the last column, of the rest.
            class_grads = weights - weights.sum(dim=1, keepdim=True) * student.exp()
            # Tokens of a rest with probability 0 have gradient 0: exp(z - inf).
            log_rest.masked_fill_(log_rest.isneginf(), torch.inf)
            ctx.save_for_backward(logits, index, class_grads, log_rest, valid)
        return logits, surrogate, value

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, passed_on_grad: Tensor | None, surrogate_grad: Tensor | None, _: Any
    ) -> tuple[Tensor | None, None, None, None, None]:
        # Only the loss computed from the returned logits is differentiated.
        if surrogate_grad is None:
            return passed_on_grad, None, None, None, None
        logits, index, class_grads, log_rest, valid = ctx.saved_tensors
        # The gradient of the other loss is modified in place, which saves a second (M, V) tensor.
        logits_grad = torch.empty_like(logits) if passed_on_grad is None else passed_on_grad.contiguous()
        for rows in row_chunks(logits):
            scale = surrogate_grad[rows, None] * class_grads[rows]
            # First every token is treated as one of the rest, then the classes are filled in.
            # A class much more probable than the rest overflows here; it is overwritten below.
            chunk = torch.sub(logits[rows], log_rest[rows, None]).exp_().mul_(scale[:, -1:])
            _fill_classes(chunk, index[rows], scale[:, :-1]).masked_fill_(~valid[rows, None], 0.0)
            if passed_on_grad is None:
                logits_grad[rows] = chunk
            else:
                logits_grad[rows].add_(chunk)
        return logits_grad, None, None, None, None


def _classes(logits: Tensor, index: Tensor, nodes: torch.Size) -> TeacherClasses:
    """Compute the teacher's probabilities of (M, j) classes from its (M, V) logits, for M = N * T * S nodes."""
    log_probs, _ = _class_log_probs(logits, index)
    return TeacherClasses(index.view(*nodes, -1), log_probs.view(*nodes, -1))


def _class_log_probs(logits: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return (M, j + 1) log probabilities of classes and rest, and the (M,) log-sum-exp of the rest."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    scores = logits.new_empty((index.shape[0], index.shape[1] + 1), dtype=dtype)
    for rows in row_chunks(logits):
        # A copy in any case, because the classes are overwritten in it below.
        chunk = logits[rows].to(dtype, copy=True)
        # An absent class (-1) reads token 0 here and is set to -inf after the loop.
        torch.gather(chunk, 1, index[rows].clamp(min=0), out=scores[rows, :-1])
        scores[rows, -1] = _fill_classes(chunk, index[rows], -torch.inf).logsumexp(dim=1)
    scores[:, :-1].masked_fill_(index < 0, -torch.inf)
    # The log-sum-exp of these j + 1 scores is that of all V, so this normalises as a softmax over the vocabulary does.
    # The clone frees the (M, j + 1) scores, which a view of their last column would keep in memory.
    return scores.log_softmax(dim=1), scores[:, -1].clone()


def _fill_classes(matrix: Tensor, index: Tensor, values: Tensor | float) -> Tensor:
    """Overwrite the entries (M, j) ``index`` of (M, V) ``matrix`` in place, except those of index -1."""
    if not isinstance(values, Tensor):
        values = matrix.new_full((1, 1), values).expand_as(index)
    # Scatter needs one value per target, since the order of its writes is undefined. An absent class therefore repeats
    # the write of another class; a node without any class writes back the present value.
    place = torch.arange(index.shape[1], device=index.device).expand_as(index)
    largest, at = index.max(dim=1, keepdim=True)
    place = torch.where(index < 0, at, place)
    target = index.gather(1, place).clamp(min=0)
    values = torch.where(largest < 0, matrix.gather(1, target), values.gather(1, place))
    return matrix.scatter_(1, target, values)
