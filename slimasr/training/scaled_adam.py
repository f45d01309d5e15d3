"""ScaledAdam (Yao et al. 2023; paper 2, section 3.5): its steps are relative to each tensor's size, which it learns."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# The largest relative change of a tensor's size in one step.
SCALE_LIMIT = 0.1


class ScaledAdam(torch.optim.Optimizer):
    """Adam whose step is relative to a tensor's root mean square r, plus gradient descent on that size.

    With gradient g, second moment v, momentum D, learning rate lr, step k (from 1) and b1, b2 = ``betas``::

        v <- b2 v + (1 - b2) g^2;   a = -lr sqrt(1 - b2^k) max(r, rms_min) g / (sqrt(v) + eps)
        D <- b1 D + (1 - b1) (a + s theta);   theta <- theta + D

    The relative change of size s is 0 but every ``scale_period``-th step P, when, from the last P values of the size's
    gradient h = sum(theta g) and their second moment w::

        w <- b2^P w + (1 - b2^P) mean(h^2);   s = -scale_lr lr sqrt(1 - b2^k) sum(h) / (sqrt(w) + eps)

    limited to [-0.1, 0.1], 0 where r < ``rms_min``, and at most (``rms_max`` - r) / r. Momentum has no bias
    correction. The magnitude of a single number does not determine a suitable step size, so a tensor of one element
    takes a plain Adam step of lr ``scale_lr`` and stays within +-``scalar_max``. There is no weight decay; the learned
    size takes its place.

    With ``clip_scale``, all gradients are first multiplied so that the norm of all r g is at most ``clip_scale`` times
    the median of that norm (unclipped) in the ``clip_window`` steps before; the first step has none before it.

    Group options besides ``lr``: with ``relative=False``, tensors of any size take plain Adam steps as above, without
    limits; ``maximize`` ascends. A parameter without gradient and its state stay bit-identical.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.045,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        scale_lr: float = 0.1,
        rms_min: float = 1e-5,
        rms_max: float = 3.0,
        scalar_max: float = 10.0,
        scale_period: int = 4,
        clip_scale: float | None = 2.0,
        clip_window: int = 100,
    ) -> None:
        defaults: dict[str, Any] = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "scale_lr": scale_lr,
            "rms_min": rms_min,
            "rms_max": rms_max,
            "scalar_max": scalar_max,
            "scale_period": scale_period,
            "relative": True,
            "maximize": False,
        }
        super().__init__(params, defaults)
        # Clipping is over all groups together, so its options are not those of a group.
        self.clip_scale = clip_scale
        self.clip_window = clip_window

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters that have a gradient, and return the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        used = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        # Both the clipping and the steps depend on the sizes before this step.
        sizes = [rms(parameter) for parameter, _ in used]
        factor = 1.0
        if self.clip_scale is not None and used:
            factor = self._clip_factor(
                self.clip_scale, [s * p.grad.norm() for s, (p, _) in zip(sizes, used, strict=True)]
            )
        for size, (parameter, group) in zip(sizes, used, strict=True):
            signed = -factor if group["maximize"] else factor
            # Not in place: gradients stay as they are for whoever reads them after the step.
            grad = parameter.grad if signed == 1.0 else parameter.grad * signed
            self._update(parameter, grad, size, group)
        return loss

    def _clip_factor(self, clip_scale: float, relative: list[Tensor]) -> float:
        """Return the factor for the gradients, from their norms r |g| by tensor, and record the norm of these.

        The norms are state under a separate key that is no parameter, so that `state_dict` includes them.
        """
        norm = float(torch.stack(relative).norm())
        # The median is over the steps before this one, so that an outlier does not raise its own threshold.
        norms: list[float] = self.state["clipping"].get("norms", [])  # type: ignore[index]
        self.state["clipping"] = {"norms": [*norms, norm][-self.clip_window :]}  # type: ignore[index]
        threshold = clip_scale * statistics.median(norms) if norms else 0.0
        return threshold / norm if 0.0 < threshold < norm else 1.0

    def _update(self, parameter: Tensor, grad: Tensor, size: Tensor, group: dict[str, Any]) -> None:
        """Update one tensor, whose root mean square is ``size``, and its state; ``grad`` is only read.

        Most of the time goes into reading and writing, so operations are in place, and numbers are multiplied first.
        """
        relative = group["relative"] and parameter.numel() > 1
        state = self.state[parameter]
        if not state:
            state.update(initial_state(parameter, relative))
        state["step"] += 1
        beta1, beta2 = group["betas"]
        # The second moment starts at 0: this factor corrects its bias, as in Adam.
        lr = group["lr"] * math.sqrt(1.0 - beta2 ** state["step"])
        moment = state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1.0 - beta2)
        change = moment.sqrt().add_(group["eps"])
        torch.div(grad, change, out=change)
        if relative:
            change *= size.clamp(min=group["rms_min"]) * -lr
            # Called in every step, because it sums up the size's gradient.
            scale = scale_change(parameter, grad, size, state, lr, group)
            if scale is not None:
                change.addcmul_(scale, parameter)
        else:
            change *= -lr * group["scale_lr"]
        # The momentum is one of changes, not of gradients, so it includes the changes of size.
        parameter += state["delta"].lerp_(change, 1.0 - beta1)
        if parameter.numel() == 1 and group["relative"]:
            parameter.clamp_(-group["scalar_max"], group["scalar_max"])


def rms(tensor: Tensor) -> Tensor:
    """Return the root mean square, a 0-dim tensor."""
    # Unlike the mean of squares, a norm is read without being written first.
    return torch.linalg.vector_norm(tensor) / math.sqrt(tensor.numel())


def initial_state(parameter: Tensor, relative: bool) -> dict[str, Any]:
    """Create the state, all zeros. That about the size is 0-dimensional, so it is not mistaken for state of weights."""
    state: dict[str, Any] = {"step": 0, "delta": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
    if relative:
        state |= {name: parameter.new_zeros(()) for name in ("scale_grad", "scale_grad_sq", "scale_avg_sq")}
    return state


def scale_change(
    parameter: Tensor, grad: Tensor, size: Tensor, state: dict[str, Any], lr: float, group: dict[str, Any]
) -> Tensor | None:
    """Return the relative change s of a tensor's size at the end of each period, otherwise None.

    Args:
        size: the tensor's root mean square.
        state: state of the tensor; its sums of h and h^2 over the period and its w are updated.
        lr: learning rate times sqrt(1 - b2^k).
    """
    period = group["scale_period"]
    decay = group["betas"][1] ** group["scale_period"]
    # The derivative of the loss by s, where the tensor is (1 + s) theta.
    scale_grad = torch.dot(parameter.flatten(), grad.flatten())
    total = state["scale_grad"].add_(scale_grad)
    total_sq = state["scale_grad_sq"].addcmul_(scale_grad, scale_grad)
    if state["step"] % period:
        return None
    moment = state["scale_avg_sq"].mul_(decay).add_(total_sq, alpha=(1.0 - decay) / period)
    change = -group["scale_lr"] * lr * total / moment.sqrt().add_(group["eps"])
    change = change.clamp(-SCALE_LIMIT, SCALE_LIMIT)
    # The direction of a tensor close to 0 is arbitrary, so its size is not scaled.
    change = change.masked_fill(size < group["rms_min"], 0.0)
    # The sums begin again; `change` is a tensor of its own.
    total.zero_()
    total_sq.zero_()
    return torch.minimum(change, (group["rms_max"] - size) / size)
