"""ScaledAdam (Yao et al. 2023; paper 2, section 3.5): its steps are relative to each tensor's size, which it learns."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

# The largest relative change of a tensor's size in one step.
SCALE_LIMIT = 0.1
# Elements of tensors that are updated together: their six arrays of 128 kB stay in the cache of a core.
BUNDLE = 2**15


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
    limits; with ``clipped=False``, gradients are not multiplied and do not count in the norm; ``maximize`` ascends. A
    parameter without gradient and its state stay bit-identical.
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
            "clipped": True,
            "maximize": False,
        }
        super().__init__(params, defaults)
        # Clipping is over all groups together, so its options are not those of a group.
        self.clip_scale = clip_scale
        self.clip_window = clip_window

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the groups of a checkpoint; those of earlier versions do not say whether they are clipped."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("clipped", True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters that have a gradient, and return the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        used = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not used:
            return loss
        parameters = [parameter for parameter, _ in used]
        grads = [cast(Tensor, parameter.grad) for parameter in parameters]
        # Both the clipping and the steps depend on the sizes before this step.
        sizes = sizes_of(parameters)
        factor = 1.0
        clipped = [index for index, (_, group) in enumerate(used) if group["clipped"]]
        if self.clip_scale is not None and clipped:
            norms = torch._foreach_norm([grads[index] for index in clipped])
            factor = self._clip_factor(self.clip_scale, torch._foreach_mul([sizes[index] for index in clipped], norms))
        for group, alike in self._bundles(used):
            chosen = [grads[index] for index in alike]
            own = factor if group["clipped"] else 1.0
            signed = -own if group["maximize"] else own
            if signed != 1.0:
                # Not in place: gradients stay as they are for whoever reads them after the step.
                chosen = list(torch._foreach_mul(chosen, signed))
            self._update([parameters[index] for index in alike], chosen, [sizes[index] for index in alike], group)
        return loss

    def _clip_factor(self, clip_scale: float, relative: Sequence[Tensor]) -> float:
        """Return the factor for the gradients, from their norms r |g| by tensor, and record the norm of these.

        The norms are state under a separate key that is no parameter, so that `state_dict` includes them.
        """
        norm = float(torch.stack(list(relative)).norm())
        # The median is over the steps before this one, so that an outlier does not raise its own threshold.
        norms: list[float] = self.state["clipping"].get("norms", [])  # type: ignore[index]
        self.state["clipping"] = {"norms": [*norms, norm][-self.clip_window :]}  # type: ignore[index]
        threshold = clip_scale * statistics.median(norms) if norms else 0.0
        return threshold / norm if 0.0 < threshold < norm else 1.0

    def _bundles(self, used: Sequence[tuple[Tensor, dict[str, Any]]]) -> list[tuple[dict[str, Any], list[int]]]:
        """Create missing state, count the step, and return the tensors that `_update` can treat together.

        Returns:
            Pairs of a group's options and indices of tensors, which have the same formulas and number of steps. A
            bundle has at most `BUNDLE` elements, so that they stay in the cache, unless a single tensor has more.
        """
        kinds: dict[Any, tuple[dict[str, Any], list[int]]] = {}
        for index, (parameter, group) in enumerate(used):
            relative = group["relative"] and parameter.numel() > 1
            state = self.state[parameter]
            if not state:
                state.update(initial_state(parameter, relative))
            state["step"] += 1
            kinds.setdefault((id(group), relative, state["step"]), (group, []))[1].append(index)
        bundles = []
        for group, alike in kinds.values():
            elements = BUNDLE
            for index in alike:
                number = used[index][0].numel()
                elements += number
                if elements > BUNDLE:
                    bundles.append((group, [index]))
                    elements = number
                else:
                    bundles[-1][1].append(index)
        return bundles

    def _update(
        self, parameters: list[Tensor], grads: list[Tensor], sizes: list[Tensor], group: dict[str, Any]
    ) -> None:
        """Update tensors of one bundle, and their state; ``grads`` are only read.

        Most of the time goes into reading and writing, so operations are in place, and numbers are multiplied first.

        Args:
            parameters: the tensors.
            grads: their gradients, with the sign and factor of this step.
            sizes: their root mean squares.
            group: the options of their group.
        """
        states = [self.state[parameter] for parameter in parameters]
        beta1, beta2 = group["betas"]
        step = states[0]["step"]
        # The second moment starts at 0: this factor corrects its bias, as in Adam.
        lr = group["lr"] * math.sqrt(1.0 - beta2**step)
        moments = [state["exp_avg_sq"] for state in states]
        torch._foreach_mul_(moments, beta2)
        torch._foreach_addcmul_(moments, grads, grads, value=1.0 - beta2)
        divisors = torch._foreach_sqrt(moments)
        torch._foreach_add_(divisors, group["eps"])
        changes = torch._foreach_div(grads, divisors)
        if "scale_grad" in states[0]:
            of_size = torch.stack(sizes)
            torch._foreach_mul_(changes, (of_size.clamp(min=group["rms_min"]) * -lr).unbind())
            # Called in every step, because it sums up the size's gradient.
            scales = scale_changes(parameters, grads, of_size, states, lr, group)
            if scales is not None:
                torch._foreach_addcmul_(changes, scales.unbind(), parameters)
        else:
            torch._foreach_mul_(changes, -lr * group["scale_lr"])
        # The momentum is one of changes, not of gradients, so it includes the changes of size.
        deltas = [state["delta"] for state in states]
        torch._foreach_lerp_(deltas, changes, 1.0 - beta1)
        torch._foreach_add_(parameters, deltas)
        if group["relative"] and "scale_grad" not in states[0]:
            limit = group["scalar_max"]
            torch._foreach_clamp_max_(parameters, limit)
            torch._foreach_clamp_min_(parameters, -limit)


def sizes_of(tensors: list[Tensor]) -> list[Tensor]:
    """Return the root mean square of each tensor, 0-dim tensors."""
    # Unlike the mean of squares, a norm is read without being written first.
    norms = torch._foreach_norm(tensors)
    return list(torch._foreach_div(norms, [math.sqrt(tensor.numel()) for tensor in tensors]))


def initial_state(parameter: Tensor, relative: bool) -> dict[str, Any]:
    """Create the state, all zeros. That about the size is 0-dimensional, so it is not mistaken for state of weights."""
    state: dict[str, Any] = {"step": 0, "delta": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
    if relative:
        state |= {name: parameter.new_zeros(()) for name in ("scale_grad", "scale_grad_sq", "scale_avg_sq")}
    return state


def scale_changes(
    parameters: list[Tensor],
    grads: list[Tensor],
    sizes: Tensor,
    states: list[dict[str, Any]],
    lr: float,
    group: dict[str, Any],
) -> Tensor | None:
    """Return the (n,) relative changes s of the sizes of n tensors at the end of each period, otherwise None.

    Args:
        parameters: the tensors.
        grads: their gradients.
        sizes: (n,) their root mean squares.
        states: their states; the sums of h and h^2 over the period and w are updated.
        lr: learning rate times sqrt(1 - b2^k).
        group: the options of their group.
    """
    period = group["scale_period"]
    decay = group["betas"][1] ** period
    # The derivative of the loss by s, where the tensor is (1 + s) theta.
    pairs = zip(parameters, grads, strict=True)
    scale_grads = [torch.dot(parameter.flatten(), grad.flatten()) for parameter, grad in pairs]
    totals = [state["scale_grad"] for state in states]
    totals_sq = [state["scale_grad_sq"] for state in states]
    torch._foreach_add_(totals, scale_grads)
    torch._foreach_addcmul_(totals_sq, scale_grads, scale_grads)
    if states[0]["step"] % period:
        return None
    averages = [state["scale_avg_sq"] for state in states]
    torch._foreach_mul_(averages, decay)
    torch._foreach_add_(averages, totals_sq, alpha=(1.0 - decay) / period)
    roots = torch.stack(averages).sqrt().add_(group["eps"])
    changes = -group["scale_lr"] * lr * torch.stack(totals) / roots
    changes = changes.clamp(-SCALE_LIMIT, SCALE_LIMIT)
    # The direction of a tensor close to 0 is arbitrary, so its size is not scaled.
    changes = changes.masked_fill(sizes < group["rms_min"], 0.0)
    # The sums begin again; `changes` is a tensor of its own.
    torch._foreach_zero_([*totals, *totals_sq])
    return torch.minimum(changes, (group["rms_max"] - sizes) / sizes)
