"""State-space systems in blocks against scipy's discretisation, the recurrence and direct sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from slimasr.elastic.blocked import BLOCK, GROUPS, LARGEST, block_macs, convolve_blocks, step_block
from slimasr.elastic.convolution import convolve
from slimasr.elastic.impulse_response import Parameters
from slimasr.elastic.ssm import ElasticS4D, discretized, gather
from tests.elastic.test_ssm import dense_response, system

GROUP = BLOCK * GROUPS[0]
LENGTHS = [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, GROUP, GROUP + 1, LARGEST, 2 * LARGEST + 3]


def both_ways(double: bool) -> tuple[list[ElasticS4D], Parameters]:
    """Three systems that run forwards, three that run backwards, and the parameters of all of them."""
    systems = [system(), ElasticS4D(3, 8, (1e-2, 0.5), decay=5.0)]
    if double:
        systems = [s4d.double() for s4d in systems]
    with torch.no_grad():
        return systems, gather(systems, 3)


@pytest.mark.parametrize("frames", LENGTHS)
def test_blocks_are_a_dense_system_frame_by_frame(frames: int) -> None:
    systems, poles = both_ways(double=True)
    u = torch.randn(2, frames, 3, dtype=torch.float64)
    got = convolve_blocks(u, poles, bidirectional=True)
    assert got.shape == (2, frames, 6)
    for channel in range(3):
        signal = u[1, :, channel].numpy()
        ahead = dense_response(systems[0], channel, signal)
        back = dense_response(systems[1], channel, signal[::-1])[::-1]
        for column, want in ((channel, ahead), (3 + channel, back)):
            torch.testing.assert_close(got[1, :, column], torch.tensor(want.copy()), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("frames", LENGTHS)
def test_float32_blocks_are_direct_sums_in_float64(frames: int) -> None:
    exact, _ = both_ways(double=True)
    u = torch.randn(2, frames, 3)
    want = convolve(u.double(), [s4d.kernel(3, frames) for s4d in exact], "real")
    got = convolve_blocks(u, both_ways(double=False)[1], bidirectional=True)
    assert (got - want).abs().max() < 1e-4 * want.abs().max()


def test_rapid_and_slow_poles_keep_their_digits() -> None:
    """Powers over many blocks neither overflow nor vanish early: decays from 1e-4 to 30 per frame."""
    rates = torch.logspace(-4, 1.5, 4)
    poles = Parameters(
        log_dt=torch.zeros(2),
        log_decay=rates.log().expand(2, 4),
        frequency=torch.tensor([[0.1, 0.3, 2.0, 3.1], [3.1, 2.0, 0.3, 0.1]]),
        readout=torch.tensor([1.0, 0.0]).expand(2, 4, 2),
        skip=torch.zeros(2),
    )
    u = torch.ones(1, 3 * LARGEST, 2)
    exponents = -rates.double().numpy() + 1j * poles.frequency.double().numpy()
    gain = np.expm1(exponents) / exponents
    powers = np.exp(exponents[:, :, None] * np.arange(3 * LARGEST))
    kernel = 2.0 * (gain[:, :, None] * powers).real.sum(1)
    want = torch.tensor(kernel.cumsum(-1)).T
    got = convolve_blocks(u, poles)[0]
    assert (got - want).abs().max() < 1e-4 * want.abs().max()


@pytest.mark.parametrize("pieces", [(8,) * 7 + (1,), (1,) * 57, (57,), (30, 2, 25)])
def test_a_stream_of_blocks_is_the_recurrence(pieces: tuple[int, ...]) -> None:
    s4d = system()
    poles = discretized([s4d], 3)
    u = torch.randn(2, 57, 3)
    state = s4d.init_state(2, 3, u.device)
    want, end = s4d.recur(u, state)
    outputs = []
    for piece in u.split(pieces, dim=1):
        out, state = step_block(piece, state, poles)
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, dim=1), want, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(state, end, atol=1e-5, rtol=1e-4)


def test_gradients_are_those_of_direct_sums() -> None:
    found: list[list[Tensor]] = []
    u = torch.randn(2, GROUP + 5, 3, dtype=torch.float64)
    for blocks in (True, False):
        s4d = system().double()
        out = convolve_blocks(u, gather([s4d], 3)) if blocks else convolve(u, [s4d.kernel(3, len(u[0]))], "real")
        out.square().sum().backward()
        found.append([p.grad for p in s4d.parameters() if p.grad is not None])
    assert len(found[0]) == 5
    torch.testing.assert_close(found[0], found[1], atol=1e-7, rtol=1e-7)


def test_half_precision_is_computed_in_float32() -> None:
    u = torch.randn(1, 40, 3)
    poles = gather([system()], 3)
    with torch.autocast("cpu", torch.bfloat16):
        out = convolve_blocks(u.bfloat16(), poles)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), convolve_blocks(u.bfloat16().float(), poles), atol=0.0, rtol=5e-3)


def test_macs_grow_with_the_length() -> None:
    """Two products of states for each block, whatever the number of blocks; their pairs are a small rest."""
    per_frame = [block_macs(5, 8, frames) / frames for frames in (LARGEST, 4 * LARGEST)]
    assert per_frame[0] < per_frame[1] < 1.02 * per_frame[0]
    inside = BLOCK + 2 * 8
    assert 5 * inside < per_frame[0] < 5 * (inside + 6 * 8 / BLOCK * (1 + 1 / GROUPS[0]))
    assert block_macs(5, 8, 0) == 0
