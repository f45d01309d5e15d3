"""Divergences between a teacher's and a student's distribution over few classes, with gradients for training.

With p the teacher, q the student and t = p / q, per node of the lattice (paper 2, section 3.4):

    KL(p || q)  = sum_k p_k log t_k
    D_a(p || q) = sum_k q_k (t_k^a - 1) / (a (a - 1)),    D_1 = KL(p || q),    D_0 = KL(q || p) = -sum_k q_k log t_k

The adaptive alpha divergence is the larger of two D_a at each node, with ratios t^a clipped at ``iw_clip``. A clipped
ratio has no gradient, so training uses the score-function form, in which rho is constant:

    gradient = -sum_k q_k rho_k grad log q_k,    rho = t                              a = 1, not clipped
                                                 rho = log min(t, iw_clip) - 1           a = 0
                                                 rho = min(t^a, iw_clip) / a + 1 / (a (a - 1))

Without clipping, this is the gradient of D_a itself: the constants vanish because sum_k q_k grad log q_k = 0. The
minimised surrogate, -sum_k q_k rho_k log q_k, has this gradient but not the value of the divergence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Divergence:
    """``kl``, or the adaptive ``alpha`` of ``alpha_min`` and ``alpha_max``, with ratios clipped at ``iw_clip``."""

    kind: Literal["kl", "alpha"]
    alpha_min: float = -1.0
    alpha_max: float = 1.0
    iw_clip: float = 5.0

    def evaluate(self, teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compare distributions node by node, without recording gradients.

        Args:
            teacher: (M, K) log probabilities of the classes; ``-inf`` in both distributions where a node lacks a class.
            student: (M, K) log probabilities.

        Returns:
            (M,) surrogates, which equal the divergences for ``kl``; (M,) divergences; (M, K) derivatives of the
            surrogates with respect to the student's log probabilities.
        """
        assert teacher.shape == student.shape, (teacher.shape, student.shape)
        # -inf minus -inf is NaN; a class that both distributions lack contributes nothing.
        lacking = teacher.isneginf() & student.isneginf()
        log_ratio = (teacher - student).masked_fill(lacking, 0.0)
        if self.kind == "kl":
            # The divergence is differentiable as it is, so it is its own surrogate.
            value, weights = _alpha_divergence(teacher, student, log_ratio, 1.0, self.iw_clip)
            return value, value, weights
        value, weights = _alpha_divergence(teacher, student, log_ratio, self.alpha_max, self.iw_clip)
        other, other_weights = _alpha_divergence(teacher, student, log_ratio, self.alpha_min, self.iw_clip)
        # Each node takes the larger of its two divergences, with the weights that belong to it.
        other_is_larger = other > value
        value = torch.where(other_is_larger, other, value)
        weights = torch.where(other_is_larger[:, None], other_weights, weights)
        return _products(weights, student).sum(dim=1), value, weights


def _alpha_divergence(
    teacher: Tensor, student: Tensor, log_ratio: Tensor, alpha: float, iw_clip: float
) -> tuple[Tensor, Tensor]:
    """Return (M,) divergences D_alpha with ratios clipped at ``iw_clip``, and (M, K) weights -q rho of their gradients.

    The formulas for alpha 1 and 0 are limits, at which the general one would divide by zero.
    """
    if alpha == 1.0:
        # rho = t is not clipped, so q rho = p.
        p = teacher.exp()
        return _products(p, log_ratio).sum(dim=1), -p
    q = student.exp()
    if alpha == 0.0:
        cut = log_ratio.clamp(max=math.log(iw_clip))
        return -_products(q, cut).sum(dim=1), -_products(q, cut - 1.0)
    constant = 1.0 / (alpha * (alpha - 1.0))
    # min(t^a, iw_clip) - 1. Where p is close to q, this is close to 0, and expm1 keeps its precision. It is finite also
    # for infinite ratios, so q = 0 needs no special case here.
    excess = torch.expm1((alpha * log_ratio).clamp(max=math.log(iw_clip)))
    return constant * (q * excess).sum(dim=1), -q * ((excess + 1.0) / alpha + constant)


def _products(probs: Tensor, logs: Tensor) -> Tensor:
    """Return ``probs * logs``, where probability 0 times an infinite logarithm is 0."""
    return (probs * logs).masked_fill(probs == 0.0, 0.0)
