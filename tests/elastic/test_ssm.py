"""State space models against scipy's discretisation, direct sums, finite differences, and each other."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import cont2discrete
from torch import Tensor

from slimasr.elastic import convolution
from slimasr.elastic.convolution import Convolution, convolve
from slimasr.elastic.impulse_response import BLOCK, _response, discretize
from slimasr.elastic.multi_head_ssm import ElasticSsmHead, ElasticSsmUnit, MultiHeadSsm, SsmOptions
from slimasr.elastic.norm import ElasticLayerNorm
from slimasr.elastic.ssm import ElasticS4D, gather, readout_parameters, ssm_parameters
from tests.tiny import randomize

DT = (1e-3, 1e-1)
KINDS: tuple[Convolution, ...] = ("fft", "real")


def options(**changes: object) -> SsmOptions:
    chosen = {"ssm_stacks": 2, "ssm_state": 4, "bidirectional": True, "convolution": "fft", "norm": "per_width"}
    return SsmOptions(**{**chosen, "dt_range": DT, "spread_heads": False, **changes})  # type: ignore[arg-type]


def system(channels: int = 3, ssm_state: int = 8) -> ElasticS4D:
    torch.manual_seed(0)
    return randomize(ElasticS4D(channels, ssm_state, DT))  # type: ignore[return-value]


def lone_unit(channels: int, **changes: object) -> MultiHeadSsm:
    """One head with one unit, which is then all there is."""
    torch.manual_seed(0)
    return randomize(MultiHeadSsm(channels, 1, options(ssm_stacks=1, **changes), (channels,)))  # type: ignore[return-value]


def run_unit(unit: ElasticSsmUnit, u: Tensor) -> Tensor:
    """A unit of full width by itself, on utterances without padding; each system's kernel is made alone."""
    channels = unit.channels
    own = [cast(ElasticS4D, s).kernel(channels, u.shape[1]) for s in unit.systems]
    return F.linear(F.gelu(convolve(u, own, "real")), unit.mix.weight, unit.mix.bias)


def run_head(head: ElasticSsmHead, u: Tensor) -> Tensor:
    """The units of a head of full width in sequence, as `run_unit`, with layer norms between them."""
    for index, unit in enumerate(head.units):
        if index:
            norm = cast(ElasticLayerNorm, head.norms[index - 1]).affine[str(u.shape[2])]
            u = F.layer_norm(u, u.shape[2:], norm.weight, norm.bias)
        u = run_unit(cast(ElasticSsmUnit, unit), u)
    return u


def dense_response(s4d: ElasticS4D, channel: int, u: np.ndarray) -> np.ndarray:
    """Output of one channel for (T,) input: the continuous system as a dense real matrix, discretised by scipy."""
    exact = {name: parameter[channel].detach().double().numpy() for name, parameter in s4d.named_parameters()}
    decay, frequency, readout = np.exp(exact["log_decay"]), exact["frequency"], exact["readout"]
    a = np.zeros((2 * len(decay), 2 * len(decay)))
    for n, (alpha, beta) in enumerate(zip(decay, frequency, strict=True)):
        a[2 * n : 2 * n + 2, 2 * n : 2 * n + 2] = [[-alpha, -beta], [beta, -alpha]]
    b = np.tile([[1.0], [0.0]], (len(decay), 1))
    c = 2.0 * (readout * [1.0, -1.0]).reshape(1, -1)
    system = (a, b, c, exact["skip"].reshape(1, 1))
    a, b, c, d, _ = cont2discrete(system, float(np.exp(exact["log_dt"])), method="zoh")
    state, out = np.zeros((len(a), 1)), []
    for value in u:
        state = a @ state + b * value
        out.append((c @ state + d * value).item())
    return np.array(out)


@pytest.mark.parametrize("frames", [1, 2, 7, 100])
def test_kernel_is_the_response_of_a_dense_system(frames: int) -> None:
    s4d = system()
    impulse = np.eye(1, frames)[0]
    want = torch.tensor(np.stack([dense_response(s4d, channel, impulse) for channel in range(3)]))
    torch.testing.assert_close(s4d.kernel(3, frames).double(), want, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(s4d.double().kernel(3, frames), want, atol=1e-10, rtol=1e-10)


def test_small_steps_lose_no_digits() -> None:
    """(e^z - 1) / lambda at dt 1e-5: float32 would keep two digits of the difference."""
    s4d = ElasticS4D(2, 4, (1e-5, 1.1e-5))
    want = torch.tensor(dense_response(s4d, 0, np.eye(1, 6)[0]))
    smooth = want - s4d.skip[0].detach().double() * torch.eye(1, 6)[0]
    got = s4d.kernel(1, 6)[0].double()
    torch.testing.assert_close(got[1:], smooth[1:], atol=0.0, rtol=1e-4)


def test_recurrence_is_the_dense_system_frame_by_frame() -> None:
    s4d, u = system().double(), torch.randn(2, 40, 3, dtype=torch.float64)
    got, _ = s4d.recur(u, s4d.init_state(2, 3, u.device))
    for row in range(2):
        for channel in range(3):
            want = torch.tensor(dense_response(s4d, channel, u[row, :, channel].numpy()))
            torch.testing.assert_close(got[row, :, channel], want, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 2, 13, 64])
def test_convolutions_are_direct_sums(kind: Convolution, frames: int) -> None:
    u, ahead, back = torch.randn(2, frames, 3), torch.randn(3, frames), torch.randn(3, frames)
    both, one = convolve(u, [ahead, back], kind), convolve(u, [ahead], kind)
    for row in range(2):
        for channel in range(3):
            signal = u[row, :, channel].double().numpy()
            in_time = np.convolve(signal, ahead[channel].double().numpy())[:frames]
            against = np.convolve(signal[::-1], back[channel].double().numpy())[:frames][::-1]
            for got, want in ((both[..., channel], in_time), (both[..., 3 + channel], against)):
                torch.testing.assert_close(got[row].double(), torch.tensor(want.copy()), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one, both[..., :3])


@pytest.mark.parametrize("at_once", [1, 1 << 17])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("frames", [1, 8, 9])
def test_convolution_gradients_are_finite_differences(
    at_once: int, directions: int, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the utterances of a batch are transformed one after the other."""
    monkeypatch.setattr(convolution, "NUMBERS_AT_ONCE", at_once)
    torch.manual_seed(0)
    values = [torch.randn(*shape, dtype=torch.float64) for shape in ((3, frames, 2), *[(2, frames)] * directions)]
    inputs = [value.requires_grad_() for value in values]
    assert torch.autograd.gradcheck(lambda u, *kernels: convolve(u, kernels, "fft"), inputs)


def test_gradients_of_the_convolution_are_those_of_direct_sums() -> None:
    """Autograd of torch's convolution, at a size that is transformed in several parts."""
    torch.manual_seed(0)
    u, ahead, back = torch.randn(5, 70, 130), torch.randn(130, 70), torch.randn(130, 70)
    weight = torch.randn(5, 70, 260)
    found = []
    for kind in KINDS:
        inputs = [value.clone().requires_grad_() for value in (u, ahead, back)]
        out = convolve(inputs[0], inputs[1:], kind)
        out.backward(weight)
        found.append([out, *(value.grad for value in inputs)])
    for by_fft, directly in zip(*found, strict=True):
        assert (by_fft - directly).norm() < 1e-5 * directly.norm()


def test_outputs_have_their_channels_last() -> None:
    """Layers behind are several times as slow on another order, and keep a tensor that is longer than its data."""
    u = torch.randn(2, 30, 3, requires_grad=True)
    out = convolve(u, [torch.randn(3, 30)] * 2, "fft")
    assert out.is_contiguous() and out.untyped_storage().nbytes() == out.nbytes
    out.sum().backward()
    assert u.grad is not None and u.grad.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_forms_are_equal(dtype: torch.dtype) -> None:
    s4d = ElasticS4D(16, 32, DT).to(dtype)
    u = torch.randn(2, 300, 16, dtype=dtype)
    kernel = s4d.kernel(16, 300)
    by_fft, directly = (convolve(u, [kernel], kind) for kind in KINDS)
    recurrent, _ = s4d.recur(u, s4d.init_state(2, 16, u.device))
    exact = dtype == torch.float64
    scale = by_fft.abs().max().item()
    assert (by_fft - directly).abs().max() < (1e-12 if exact else 1e-5) * scale
    assert (by_fft - recurrent).abs().max() < (1e-10 if exact else 1e-4) * scale


def test_a_recurrence_goes_on_where_it_was_left() -> None:
    s4d, u = system(), torch.randn(2, 20, 3)
    whole, end = s4d.recur(u, s4d.init_state(2, 3, u.device))
    state, parts = s4d.init_state(2, 3, u.device), []
    for part in u.split([1, 0, 12, 7], dim=1):
        out, state = s4d.recur(part, state)
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    torch.testing.assert_close(state, end)


@pytest.mark.parametrize("kind", [*KINDS, "blocked"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_gradients_are_finite_differences(kind: Convolution, bidirectional: bool) -> None:
    torch.manual_seed(0)
    module = lone_unit(2, convolution=kind, bidirectional=bidirectional).double()
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    names, values = zip(*module.named_parameters(), strict=True)

    def call(u: Tensor, *parameters: Tensor) -> Tensor:
        chosen = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(module, chosen, (u, padding))  # type: ignore[no-any-return]

    u = torch.randn(2, 5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(call, (u, *(v.detach().requires_grad_() for v in values)))


@pytest.mark.parametrize("frames", [1, BLOCK, 2 * BLOCK + 3])
def test_kernel_gradients_are_finite_differences(frames: int) -> None:
    s4d = system(channels=2, ssm_state=4).double()
    # Finite differences move the parameters themselves.
    assert torch.autograd.gradcheck(lambda *_: s4d.kernel(2, frames), tuple(s4d.parameters()))


@pytest.mark.parametrize("frames", [1, 5, 3 * BLOCK, 300])
def test_kernels_without_gradients_are_the_same(frames: int) -> None:
    """An export traces other operations than training runs."""
    s4d = system()
    trained = s4d.kernel(3, frames)
    with torch.no_grad():
        torch.testing.assert_close(s4d.kernel(3, frames), trained, atol=1e-5, rtol=1e-5)
        exact = s4d.double().kernel(3, frames)
    torch.testing.assert_close(s4d.kernel(3, frames), exact, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("kind", [*KINDS, "blocked"])
def test_no_frame_at_all_is_a_length(kind: Convolution) -> None:
    """An utterance may be shorter than what the front end stacks."""
    module = lone_unit(3, convolution=kind)
    out = module(torch.randn(2, 0, 3), torch.zeros(2, 0, dtype=torch.bool))
    assert out.shape == (2, 0, 3)
    out.sum().backward()
    assert all(p.grad is None or (p.grad == 0).all() for p in module.parameters())
    assert system().kernel(3, 0).shape == (3, 0)
    system().kernel(3, 0).sum().backward()


@pytest.mark.parametrize("dt", [1e-5, 1e-3, 0.5])
def test_kernel_gradients_keep_their_digits(dt: float) -> None:
    """float32 against float64 by autograd through the plain form; at small steps, terms of the gradients cancel."""
    found = []
    for dtype in (torch.float32, torch.float64):
        torch.manual_seed(0)
        s4d, weight = ElasticS4D(4, 8, (dt, 1.1 * dt)), torch.randn(4, 200)
        s4d, weight = s4d.to(dtype), weight.to(dtype)
        kernel = s4d.kernel(4, 200)
        if dtype == torch.float64:
            kernel = _response(discretize(gather([s4d], 4)), 200)
        kernel.backward(weight)
        found.append([parameter.grad.double() for parameter in s4d.parameters() if parameter.grad is not None])
    assert len(found[0]) == 5
    for got, want in zip(*found, strict=True):
        assert (got - want).norm() < 1e-4 * want.norm()


def test_gradient_flows_through_the_recurrence_as_through_the_convolution() -> None:
    s4d, u, found = system().double(), torch.randn(1, 9, 3, dtype=torch.float64), []
    for out in (convolve(u, [s4d.kernel(3, 9)], "fft"), s4d.recur(u, s4d.init_state(1, 3, u.device))[0]):
        s4d.zero_grad()
        out.square().sum().backward()
        found.append([p.grad.clone() for p in s4d.parameters() if p.grad is not None])
    assert len(found[0]) == 5
    torch.testing.assert_close(found[0], found[1], atol=1e-9, rtol=1e-9)


def test_unit_masks_padding_before_both_directions() -> None:
    unit = lone_unit(4)
    u = torch.randn(1, 9, 4)
    alone = unit(u[:, :6], torch.zeros(1, 6, dtype=torch.bool))
    u[:, 6:] = 1e3
    together = unit(u, torch.arange(9)[None] >= 6)
    torch.testing.assert_close(together[:, :6], alone, atol=1e-5, rtol=1e-4)


def test_unit_is_its_formula() -> None:
    """W GELU([SSM_f(u) | Rev SSM_b(Rev u)]) + b, both directions run forward and reversed by hand."""
    module = lone_unit(3).double()
    unit = cast(ElasticSsmUnit, cast(ElasticSsmHead, module.heads[0]).units[0])
    u = torch.randn(1, 12, 3, dtype=torch.float64)
    directions = []
    for s4d, signal in zip(unit.systems, (u, u.flip(1)), strict=True):
        columns = [dense_response(s4d, channel, signal[0, :, channel].numpy()) for channel in range(3)]  # type: ignore[arg-type]
        directions.append(torch.tensor(np.stack(columns, axis=1)).unsqueeze(0))
    z = torch.cat([directions[0], directions[1].flip(1)], dim=-1)
    want = F.linear(F.gelu(z), unit.mix.weight, unit.mix.bias)
    torch.testing.assert_close(module(u, torch.zeros(1, 12, dtype=torch.bool)), want, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("stacks", [1, 3])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("channels", [8, 4])
def test_heads_gate_each_other_in_pairs(channels: int, bidirectional: bool, stacks: int) -> None:
    chosen = options(ssm_stacks=stacks, bidirectional=bidirectional)
    module = randomize(MultiHeadSsm(8, 4, chosen, (8, 4)))
    assert isinstance(module, MultiHeadSsm)
    x, none = torch.randn(2, 7, channels), torch.zeros(2, 7, dtype=torch.bool)
    rows = [2 * head + channel for head in range(4) for channel in range(channels // 4)]
    inner = F.linear(x, module.in_proj.weight[rows, :channels], module.in_proj.bias[rows])
    heads = [cast(ElasticSsmHead, head).extract(channels // 4) for head in module.heads]
    parts = [run_head(head, part) for head, part in zip(heads, inner.chunk(4, dim=-1), strict=True)]
    gated = torch.cat([parts[0] * F.gelu(parts[2]), parts[1] * F.gelu(parts[3])], dim=-1)
    columns = rows[: len(rows) // 2]
    want = F.linear(gated, module.out_proj.weight[:channels][:, columns], module.out_proj.bias[:channels])
    torch.testing.assert_close(module(x, none), want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(module.extract(channels)(x, none), want, atol=1e-5, rtol=1e-5)


def test_one_head_has_no_projections() -> None:
    module = randomize(MultiHeadSsm(6, 1, options(), (6,)))
    assert isinstance(module, MultiHeadSsm)
    x, none = torch.randn(1, 5, 6), torch.zeros(1, 5, dtype=torch.bool)
    want = run_head(cast(ElasticSsmHead, module.heads[0]), x)
    torch.testing.assert_close(module(x, none), want, atol=1e-5, rtol=1e-5)
    assert {name.split(".")[0] for name, _ in module.named_parameters()} == {"heads"}


def test_weights_outside_the_slice_get_zero_gradient() -> None:
    module = randomize(MultiHeadSsm(8, 2, options(), (8, 4)))
    module(torch.randn(2, 6, 4), torch.zeros(2, 6, dtype=torch.bool)).square().sum().backward()
    for name, parameter in module.named_parameters():
        if ".affine.4." in name:
            assert parameter.grad is None, name  # the norm of the full width
            continue
        assert parameter.grad is not None, name
        inside = torch.zeros_like(parameter, dtype=torch.bool)
        if name == "in_proj.weight":
            inside[[0, 1, 4, 5], :4] = True
        elif name == "in_proj.bias":
            inside[[0, 1, 4, 5]] = True
        elif name.endswith("proj.weight") or name.endswith("proj.bias"):
            inside[(slice(4), slice(2)) if parameter.ndim == 2 else slice(4)] = True
        elif name.endswith("mix.weight"):
            inside[:2, [0, 1, 4, 5]] = True
        else:
            inside[:2] = True
        assert (parameter.grad[~inside] == 0).all(), name
        if not name.endswith("frequency"):
            assert (parameter.grad[inside] != 0).any(), name


def test_autocast_leaves_the_systems_in_float32() -> None:
    s4d, u = system(), torch.randn(2, 30, 3)
    want = convolve(u, [s4d.kernel(3, 30)], "fft"), s4d.recur(u, s4d.init_state(2, 3, u.device))[0]
    with torch.autocast("cpu", torch.bfloat16):
        kernel = s4d.kernel(3, 30)
        for kind in KINDS:
            torch.testing.assert_close(convolve(u, [kernel], kind), want[0], atol=1e-5, rtol=1e-5)
        got = s4d.recur(u, s4d.init_state(2, 3, u.device))[0]
    assert torch.equal(kernel, s4d.kernel(3, 30)) and torch.equal(got, want[1])


def test_starts_as_s4d_lin() -> None:
    torch.manual_seed(0)
    s4d = ElasticS4D(4000, 8, DT)
    assert torch.equal(s4d.frequency[0], math.pi * torch.arange(4)) and (s4d.log_decay.exp() - 0.5).abs().max() < 1e-6
    log_dt = s4d.log_dt.detach()
    assert math.log(DT[0]) <= log_dt.min() and log_dt.max() <= math.log(DT[1])
    assert abs(log_dt.mean() - math.log(1e-2)) < 0.1 and abs(log_dt.std() - math.log(100) / math.sqrt(12)) < 0.05
    assert abs(s4d.readout.square().sum(-1).mean() - 1.0) < 0.05 and abs(s4d.skip.std() - 1.0) < 0.05


def test_decay_sets_how_far_the_first_kernels_reach() -> None:
    """Without poles' frequencies, a kernel falls by e every 1 / (dt decay) frames."""
    system = ElasticS4D(5, 4, (0.1, 0.1001), decay=2.0)
    with torch.no_grad():
        system.frequency.zero_()
        system.skip.zero_()
        kernel = system.kernel(5, 21)
    torch.testing.assert_close(kernel[:, 5:], kernel[:, :-5] / math.e, rtol=2e-3, atol=1e-7)


def test_spread_heads_share_the_time_scales_out() -> None:
    module = MultiHeadSsm(64, 4, options(spread_heads=True), (64,))
    ranges = [[s.log_dt.exp() for u in head.units for s in u.systems] for head in module.heads]
    bounds = [1e-1, 10**-1.5, 1e-2, 10**-2.5, 1e-3]
    for steps, high, low in zip(ranges, bounds[:-1], bounds[1:], strict=True):
        every = torch.cat(steps)
        assert low * 0.999 < every.min() and every.max() < high * 1.001


def test_names_that_optimisers_treat_apart() -> None:
    module = MultiHeadSsm(4, 2, options(ssm_stacks=1), (4,))
    named = dict(module.named_parameters())
    slow, read = ssm_parameters(module), readout_parameters(module)
    assert slow | read <= named.keys() and not slow & read
    assert {name.rsplit(".", 1)[1] for name in slow} == {"log_dt", "log_decay", "frequency"}
    assert {name.rsplit(".", 1)[1] for name in read} == {"readout", "skip"}
    assert len(slow) == 4 * 3 and not any(p.is_complex() for p in named.values())


def test_parameters_per_channel() -> None:
    s4d = ElasticS4D(9, 32, DT)
    assert sum(p.numel() for p in s4d.extract(7).parameters()) == s4d.count(7, 5).params == 7 * 66


def test_heads_that_cannot_share_the_channels_are_an_error() -> None:
    with pytest.raises(ValueError, match="6 channels cannot be divided among 4 heads"):
        MultiHeadSsm(8, 4, options(), (8, 6))
