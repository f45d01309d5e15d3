"""ScaledAdam against its formulas in numpy and against torch's Adam, and what follows from the formulas."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from slimasr.training.scaled_adam import ScaledAdam

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass
class Reference:
    """Paper 2, section 3.5, in float64: whole histories are kept, and each quantity is worked out from them."""

    thetas: list[Array]
    lr: float
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    eta: float = 0.1
    r_min: float = 1e-5
    r_max: float = 3.0
    scalar_max: float = 10.0
    period: int = 4
    clip_scale: float | None = None
    window: int = 100
    history: list[list[Array]] = field(default_factory=list)
    hs: list[list[float]] = field(default_factory=list)
    ws: list[float] = field(default_factory=list)
    deltas: list[Array] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    reached: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.history, self.hs = [[] for _ in self.thetas], [[] for _ in self.thetas]
        self.ws, self.deltas = [0.0 for _ in self.thetas], [np.zeros_like(t) for t in self.thetas]

    def step(self, grads: Sequence[Array | None]) -> None:
        factor = self.clip(grads)
        for i, grad in enumerate(grads):
            if grad is not None:
                self.step_one(i, grad * factor)

    def clip(self, grads: Sequence[Array | None]) -> float:
        if self.clip_scale is None:
            return 1.0
        weighted = [
            (g * np.sqrt(np.mean(t**2))).ravel() for t, g in zip(self.thetas, grads, strict=True) if g is not None
        ]
        norm = float(np.linalg.norm(np.concatenate(weighted)))
        before = self.norms[-self.window :]
        self.norms.append(norm)
        if before and norm > self.clip_scale * np.median(before):
            self.reached["clipped"] += 1
            return float(self.clip_scale * np.median(before) / norm)
        return 1.0

    def step_one(self, i: int, grad: Array) -> None:
        (b1, b2), theta, history = self.betas, self.thetas[i], self.history[i]
        history.append(grad)
        k = len(history)
        v = sum((1 - b2) * b2 ** (k - 1 - j) * g**2 for j, g in enumerate(history))
        a = -self.lr * np.sqrt(1 - b2**k) / (np.sqrt(v) + self.eps) * grad
        if theta.size == 1:
            self.deltas[i] = b1 * self.deltas[i] + (1 - b1) * self.eta * a
            moved = theta + self.deltas[i]
            self.reached["scalar at its limit"] += int(np.abs(moved).item() > self.scalar_max)
            self.thetas[i] = np.clip(moved, -self.scalar_max, self.scalar_max)
            return
        r = float(np.sqrt(np.mean(theta**2)))
        self.hs[i].append(float(np.sum(theta * grad)))
        s = self.size_change(i, r, k) if k % self.period == 0 else 0.0
        self.deltas[i] = b1 * self.deltas[i] + (1 - b1) * (a * max(r, self.r_min) + s * theta)
        self.thetas[i] = theta + self.deltas[i]

    def size_change(self, i: int, r: float, k: int) -> float:
        last, decay = np.array(self.hs[i][-self.period :]), self.betas[1] ** self.period
        self.ws[i] = decay * self.ws[i] + (1 - decay) * float(np.mean(last**2))
        correction = np.sqrt(1 - self.betas[1] ** k)
        s = float(-self.eta * self.lr * correction * last.sum() / (np.sqrt(self.ws[i]) + self.eps))
        if r < self.r_min:
            self.reached["too small"] += 1
            return 0.0
        clipped = min(max(s, -0.1), 0.1)
        if clipped != s:
            self.reached["-0.1" if s < 0 else "+0.1"] += 1
        if clipped > (self.r_max - r) / r:
            self.reached["too large"] += 1
        return min(clipped, (self.r_max - r) / r)


def tensors() -> list[Array]:
    """Matrices and vectors of ordinary size, one too small, one of zeros, one near and one beyond the limit, three
    of one element."""
    rng = np.random.default_rng(1)
    shapes = [(3, 4), (5,), (2, 3, 2), (4, 4), (6,), (3,), (7,), (), (1,), (1, 1)]
    scales = [0.1, 0.05, 1.0, 1e-6, 0.0, 2.95, 4.0, 0.5, 9.99, 0.0]
    return [s * rng.standard_normal(shape) for s, shape in zip(scales, shapes, strict=True)]


def gradients(thetas: Sequence[Array], step: int) -> list[Array | None]:
    """Noise, towards smaller values in the first tensor, larger ones in others; a tenfold one at two steps; two
    tensors now and then without any."""
    rng = np.random.default_rng(100 + step)
    grads: list[Array | None] = []
    for i, theta in enumerate(thetas):
        grad = 0.3 * rng.standard_normal(theta.shape) + (np.sign(theta) if i == 0 else -np.sign(theta))
        grads.append(None if step % 3 == 1 and i in (2, 9) else grad * (10.0 if step in (9, 17) else 1.0))
    return grads


def parameters(arrays: Sequence[Array], dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor(array, dtype=dtype)) for array in arrays]


def set_gradients(params: Sequence[Tensor], grads: Sequence[Array | None]) -> None:
    for parameter, grad in zip(params, grads, strict=True):
        parameter.grad = None if grad is None else torch.tensor(grad, dtype=parameter.dtype)


@pytest.mark.parametrize("clip_scale", [None, 2.0])
@pytest.mark.parametrize("period", [1, 4])
def test_every_step_is_that_of_the_formulas(period: int, clip_scale: float | None) -> None:
    """24 steps, with a rate that changes, through every limit."""
    reference = Reference(tensors(), lr=0.1, eta=0.5, period=period, clip_scale=clip_scale, window=5)
    params = parameters(tensors())
    optimizer = ScaledAdam(params, scale_lr=0.5, scale_period=period, clip_scale=clip_scale, clip_window=5)
    for step in range(24):
        reference.lr = optimizer.param_groups[0]["lr"] = 0.1 / (1.0 + 0.05 * step)
        grads = gradients(reference.thetas, step)
        set_gradients(params, grads)
        reference.step(grads)
        optimizer.step()
        for i, (parameter, theta) in enumerate(zip(params, reference.thetas, strict=True)):
            np.testing.assert_allclose(parameter.detach().numpy(), theta, rtol=1e-9, atol=1e-15, err_msg=f"{step} {i}")
    expected = {"too small", "too large", "scalar at its limit"}
    expected |= {"-0.1", "+0.1"} if period == 4 else set()
    expected |= {"clipped"} if clip_scale else set()
    assert expected <= reference.reached.keys()


def test_float32_follows_the_formulas() -> None:
    reference, params = Reference(tensors(), lr=0.045), parameters(tensors(), torch.float32)
    optimizer = ScaledAdam(params, clip_scale=None)
    for step in range(16):
        grads = gradients(reference.thetas, step)
        set_gradients(params, grads)
        reference.step(grads)
        optimizer.step()
    for parameter, theta in zip(params, reference.thetas, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), theta, rtol=1e-4, atol=1e-8)


def test_tensors_of_one_element_and_groups_without_size_follow_torch() -> None:
    """Without momentum, whose forms differ, and with an eps that does not count, a plain Adam step of lr eta."""
    ours, theirs = parameters([np.array([0.3]), np.ones((2, 3))]), parameters([np.array([0.3]), np.ones((2, 3))])
    groups = [{"params": ours[:1]}, {"params": ours[1:], "relative": False}]
    optimizer = ScaledAdam(groups, lr=0.02, betas=(0.0, 0.98), eps=1e-14, clip_scale=None)
    adam = torch.optim.Adam(theirs, lr=0.002, betas=(0.0, 0.98), eps=1e-14)
    for step in range(12):
        for params in (ours, theirs):
            set_gradients(params, gradients([np.array([1.0]), np.ones((2, 3))], step)[:2])
        ours[1].grad, theirs[1].grad = torch.full((2, 3), 1.0 + step).double(), torch.full((2, 3), 1.0 + step).double()
        optimizer.step()
        adam.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=0.0)


@pytest.mark.parametrize("factor", [0.25, 8.0])
def test_steps_are_relative(factor: float) -> None:
    """A model written in other units (weights times c, hence gradients over c) takes the same path, to the bit."""
    start = [0.1 * array for array in tensors()[:3]]
    params, scaled = parameters(start), parameters([factor * array for array in start])
    optimizers = [ScaledAdam(p, eps=0.0, clip_scale=2.0, clip_window=3) for p in (params, scaled)]
    for step in range(12):
        grads = gradients(start, step)
        set_gradients(params, grads)
        set_gradients(scaled, [None if g is None else g / factor for g in grads])
        for optimizer in optimizers:
            optimizer.step()
        for a, b in zip(params, scaled, strict=True):
            assert torch.equal(factor * a, b), step


def test_gradients_of_any_unit_give_the_same_steps() -> None:
    params, others = parameters(tensors()[:3]), parameters(tensors()[:3])
    optimizers = [ScaledAdam(p, eps=0.0) for p in (params, others)]
    for step in range(12):
        grads = gradients(tensors()[:3], step)
        set_gradients(params, grads)
        set_gradients(others, [None if g is None else 64.0 * g for g in grads])
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(params, others, strict=True):
        assert torch.equal(a, b)


def test_sizes_are_learnt_and_bounded() -> None:
    """A gradient along the weights grows them to about ``rms_max``, where every step is pulled back; its opposite
    shrinks them."""
    for sign in (-1.0, 1.0):
        (weight,) = parameters([np.random.default_rng(0).standard_normal((8, 8))])
        optimizer = ScaledAdam([weight], lr=0.005, scale_lr=1.0, clip_scale=None)
        for _ in range(400):
            weight.grad = sign * weight.detach()
            optimizer.step()
        size = weight.detach().square().mean().sqrt().item()
        assert size == pytest.approx(3.0, rel=0.05) if sign < 0 else size < 0.2


def test_a_maximised_group_mirrors_a_minimised_one() -> None:
    down, up = parameters(tensors()[:1]), parameters([-array for array in tensors()[:1]])
    optimizers = [ScaledAdam(down), ScaledAdam([{"params": up, "maximize": True}])]
    for step in range(8):
        for params, optimizer in zip((down, up), optimizers, strict=True):
            set_gradients(params, gradients(tensors()[:1], step))
            optimizer.step()
    assert torch.equal(down[0], -up[0])


def test_without_gradient_nothing_changes() -> None:
    used, unused = parameters(tensors()[:2])
    optimizer = ScaledAdam([used, unused])
    for step in range(5):
        set_gradients([used, unused], gradients(tensors()[:2], step))
        optimizer.step()
    before = unused.detach().clone(), {k: torch.as_tensor(v).clone() for k, v in optimizer.state[unused].items()}
    unused.grad = None
    for _ in range(5):
        optimizer.step()
    assert torch.equal(unused, before[0])
    for name, value in optimizer.state[unused].items():
        assert torch.equal(torch.as_tensor(value), before[1][name]), name


@pytest.mark.parametrize("saved_at", [0, 6, 11])
def test_a_checkpoint_goes_on_bit_for_bit(saved_at: int) -> None:
    """Inside a period of the scale and inside the clipping window; the file holds tensors and plain values only."""
    params = parameters(tensors(), torch.float32)
    optimizer = ScaledAdam(params, clip_window=8)
    copies, copy = params, optimizer
    for step in range(20):
        if step == saved_at:
            file = io.BytesIO()
            torch.save({"weights": list(params), "optimizer": optimizer.state_dict()}, file)
            file.seek(0)
            saved = torch.load(file, weights_only=True)
            copies = [nn.Parameter(p.detach().clone()) for p in saved["weights"]]
            copy = ScaledAdam(copies, clip_window=8)
            copy.load_state_dict(saved["optimizer"])
        for p, o in ((params, optimizer),) if step < saved_at else ((params, optimizer), (copies, copy)):
            set_gradients(p, gradients(tensors(), step))
            o.step()
    assert copy is not optimizer
    for a, b in zip(params, copies, strict=True):
        assert torch.equal(a, b)
    norms = optimizer.state_dict()["state"]["clipping"]["norms"]
    assert norms == copy.state_dict()["state"]["clipping"]["norms"]
    assert len(norms) == 8


def test_it_solves_a_least_squares_problem() -> None:
    """With a falling rate it reaches numpy's solution, from weights far too small."""
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((40, 6)), rng.standard_normal((40, 2))
    solution, *_ = np.linalg.lstsq(x, y, rcond=None)
    weight = nn.Parameter(torch.tensor(1e-3 * rng.standard_normal((6, 2))))
    optimizer = ScaledAdam([weight])

    def loss() -> float:
        optimizer.zero_grad()
        value = (torch.tensor(x) @ weight - torch.tensor(y)).square().mean()
        value.backward()
        return float(value.detach())

    for step in range(600):
        optimizer.param_groups[0]["lr"] = 0.05 * (1.0 - step / 600)
        last = optimizer.step(loss)
    assert last == pytest.approx(np.mean((x @ solution - y) ** 2), rel=1e-4)
    np.testing.assert_allclose(weight.detach().numpy(), solution, atol=5e-3)
