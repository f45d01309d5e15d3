"""State-space systems block by block: real matrix products within blocks, and the state carried from block to block.

A block of b frames is one product with the triangle of the first b values of the impulse response. What earlier blocks
add follows from the state before the block, which powers of the poles carry over any number of blocks. Time is linear
in the number of frames, no loop runs over frames, and no number is complex, so every runtime of devices has all
operations. What depends on weights alone is computed by operations on them, which a runtime does once, as it loads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from slimasr.elastic.impulse_response import Discretized, Parameters, discretize

BLOCK = 16
"""Frames of a block. The constants of a channel have about b^2 + 4 n b numbers for n pairs of states."""

GROUPS = (4, 4)
"""Blocks of a group, groups of a larger group, and so on; within each of them, states are carried one by one."""

LARGEST = BLOCK * math.prod(GROUPS)
"""Frames of the largest groups; of these, every one carries its state to all others at once."""


OPERATOR = "slimasr::ConvolveBlocks"
"""Name of `convolve_blocks` in exported programs. Its inputs are the signal and the parameters of the systems."""

SIZES = ("channels", "pairs", "systems")
"""Attributes of `OPERATOR`: channels of the signal, pairs of states of a system, number of systems."""


@dataclass(frozen=True)
class Block:
    """What C systems make of b frames and of the state before them. States are [real parts | imaginary parts].

    Attributes:
        triangle: (C, b, b), from inputs to outputs of the same block; row i and column j hold K_{j - i}.
        injection: (C, b, 2n), from inputs to the state after the block.
        readout: (C, 2n, b), from the state before the block to its outputs.
    """

    triangle: Tensor
    injection: Tensor
    readout: Tensor


def convolve_blocks(u: Tensor, system: Parameters, bidirectional: bool = False) -> Tensor:
    """Run systems over a whole signal.

    Exported programs have it as one node, `OPERATOR`, so that its more than 200 operations are traced once and not in
    every unit.

    Args:
        u: (N, T, C), zero on padding.
        system: those of the C channels; with ``bidirectional``, followed by those that run backwards in time.
        bidirectional: whether there are systems of both directions.

    Returns:
        (N, T, C) per direction, concatenated, in the dtype of ``u``; computed in that of the systems.
    """
    if u.shape[1] == 0:
        # There is no block at all.
        return torch.cat([u, u], dim=-1) if bidirectional else u
    with torch.autocast(u.device.type, enabled=False):
        signal = u.to(system.skip.dtype)
        values = (system.log_dt, system.log_decay, system.frequency, system.readout, system.skip)
        if torch.onnx.is_in_onnx_export():
            return _one_node(signal, values, bidirectional).to(u.dtype)
        return convolve_both(signal, *values, bidirectional=bidirectional).to(u.dtype)


def convolve_both(
    u: Tensor,
    log_dt: Tensor,
    log_decay: Tensor,
    frequency: Tensor,
    readout: Tensor,
    skip: Tensor,
    bidirectional: bool,
) -> Tensor:
    """Do what `convolve_blocks` does, for a signal of at least one frame in the dtype of the systems."""
    system = discretize(Parameters(log_dt, log_decay, frequency, readout, skip))
    if not bidirectional:
        return _convolve(u, system)
    # A system that runs backwards is one that runs forwards on the reversed signal.
    out = _convolve(torch.cat([u, u.flip(1)], dim=-1), system)
    ahead, back = out.chunk(2, dim=-1)
    return torch.cat([ahead, back.flip(1)], dim=-1)


def _one_node(signal: Tensor, values: Sequence[Tensor], bidirectional: bool) -> Tensor:
    """Return the output of `OPERATOR`, as which an exported program has the whole function."""
    systems, pairs = values[1].shape
    sizes = (systems // 2 if bidirectional else systems, pairs, systems)
    return torch.onnx.ops.symbolic(
        OPERATOR,
        (signal, *values),
        dict(zip(SIZES, sizes, strict=True)),
        dtype=signal.dtype,
        shape=(signal.shape[0], signal.shape[1], systems),
        version=1,
    )


def step_block(u: Tensor, state: Tensor, system: Discretized) -> tuple[Tensor, Tensor]:
    """Run systems over the next frames of streams, as one block: constants grow with the square of its length.

    Args:
        u: (N, T, C), at least one frame.
        state: (N, C, 2, n), real and imaginary parts of the state after the last frame before.

    Returns:
        (N, T, C) output and the next state.
    """
    frames = u.shape[1]
    with torch.autocast(u.device.type, enabled=False):
        block = _block(system, frames)
        # (C, N, T) and (C, N, 2n), as products are per channel
        inputs = u.to(state.dtype).permute(2, 0, 1)
        before = state.transpose(0, 1)
        out = inputs @ block.triangle + before.flatten(2) @ block.readout
        injected = (inputs @ block.injection).unflatten(2, (2, -1))
        # (C, 1, 2, n)
        pole = torch.stack(_polar(system.log_modulus, system.angle, float(frames)), dim=1).unsqueeze(1)
        after = _times(before, _Factor.of(pole, dim=2), dim=2) + injected
        return out.permute(1, 2, 0).to(u.dtype), after.transpose(0, 1)


def block_macs(channels: int, ssm_state: int, frames: int) -> int:
    """Count the MACs of `convolve_blocks` on one utterance; those of its constants do not count.

    Args:
        channels: number of systems, of all directions.
        ssm_state: real numbers in the state of a system.
        frames: length of the utterance.
    """
    blocks = _parts(frames, BLOCK)
    macs = blocks * BLOCK * (BLOCK + 2 * ssm_state)
    for size in GROUPS:
        groups = _parts(blocks, size)
        # Two complex products per state and block: inside the group, and from what came before it
        macs += 4 * ssm_state * groups * size
        blocks = groups
    return channels * (macs + 2 * ssm_state * blocks * blocks)


def _block(system: Discretized, frames: int) -> Block:
    """Compute the constants of blocks of ``frames`` frames."""
    exponents = torch.arange(frames + 1, dtype=system.angle.dtype, device=system.angle.device)
    # (C, b + 1, n) each: powers of the poles from 0 to b
    re, im = _polar(system.log_modulus.unsqueeze(1), system.angle.unsqueeze(1), exponents.unsqueeze(1))
    injection = torch.cat([re[:, :-1], im[:, :-1]], dim=2).flip(1)
    # What a state contributes after l more steps: 2 Re(w p^l s), which is a product with its two parts
    w_re, w_im = (2.0 * part.unsqueeze(1) for part in system.weight)
    of_re = w_re * re - w_im * im
    of_im = w_re * im + w_im * re
    # An output of the block is at least one step behind the state before the block.
    readout = torch.cat([of_re[:, 1:], -of_im[:, 1:]], dim=2).transpose(1, 2)
    kernel = of_re[:, :-1].sum(2) + F.pad(system.skip.unsqueeze(1), (0, frames - 1))
    # K_{j - i} at row i and column j; the zero in front of the kernel stands for all j < i.
    frame = torch.arange(frames, device=kernel.device)
    lags = (frame - frame.unsqueeze(1) + 1).clamp(min=0)
    triangle = F.pad(kernel, (1, 0)).index_select(1, lags.flatten()).unflatten(1, (frames, frames))
    return Block(triangle, injection, readout)


def _convolve(u: Tensor, system: Discretized) -> Tensor:
    """Run the systems of C channels forwards: (N, T, C) -> (N, T, C)."""
    n, frames, channels = u.shape
    blocks = _parts(frames, BLOCK)
    block = _block(system, BLOCK)
    # The powers of all levels at once: to the blocks of a group, to the groups of a larger one
    parts = [torch.arange(size, device=u.device) for size in GROUPS]
    levels = [BLOCK * math.prod(GROUPS[:level]) * part for level, part in enumerate(parts)]
    factors = _Factor.of(_powers(system, torch.cat(levels))).split(GROUPS)
    padded = F.pad(u, (0, 0, 0, blocks * BLOCK - frames))
    # (C, N blocks, b), as products are per channel
    inputs = padded.reshape(n * blocks, BLOCK, channels).permute(2, 0, 1)
    injected = (inputs @ block.injection).unflatten(1, (n, blocks)).unflatten(3, (2, -1))
    # (2, N, blocks, C, n): the inner dimensions are those of the poles, by which everything is multiplied.
    states = _carried(injected.permute(3, 1, 2, 0, 4), factors, system)
    before = states.permute(3, 1, 2, 0, 4).flatten(3).flatten(1, 2)
    out = inputs @ block.triangle + before @ block.readout
    return out.permute(1, 2, 0).reshape(n, blocks * BLOCK, channels)[:, :frames]


def _carried(injected: Tensor, factors: Sequence[_Factor], system: Discretized) -> Tensor:
    """Carry states over blocks: ``s_0 = 0``, ``s_{k+1} = p^b s_k + v_k``.

    Args:
        injected: (2, N, K, C, n), real and imaginary parts of what each of K blocks adds to the state behind it.
        factors: for groups, for groups of groups, and so on: the poles' powers from the beginning of one to its parts.
        system: the systems.

    Returns:
        (2, N, K, C, n), the states before the blocks.
    """
    if not factors:
        return _carried_at_once(injected, system)
    factor, *larger = factors
    size = len(factor)
    blocks = injected.shape[2]
    count = _parts(blocks, size)
    padded = F.pad(injected, (0, 0, 0, 0, 0, count * size - blocks))
    first, *others = padded.unflatten(2, (count, size)).split(1, 3)
    # From a state of zero before each group
    state = first
    states = [torch.zeros_like(first)]
    step = factor.at(1)
    for added in others:
        states.append(state)
        state = _times(state, step) + added
    # A group is a block of the next level.
    before = _carried(state.squeeze(3), larger, system).unsqueeze(3)
    lifted = _times(before, factor)
    return (torch.cat(states, dim=3) + lifted).flatten(2, 3)[:, :, :blocks]


def _carried_at_once(injected: Tensor, system: Discretized) -> Tensor:
    """Do the same for a small number of the largest groups, in time and memory quadratic in it."""
    groups = torch.arange(injected.shape[2], device=injected.device)
    # The zeros in front stand for all groups that are not earlier.
    poles = F.pad(_powers(system, LARGEST * groups), (0, 0, 0, 0, 1, 0))
    lags = (groups.unsqueeze(1) - groups).clamp(min=0)
    # (2, K, K, C, n), from the second K to the first
    pairs = poles.index_select(1, lags.flatten()).unflatten(1, lags.shape)
    re, im = pairs.unsqueeze(1).split(1)
    return _times(injected.unsqueeze(2), _Factor(re, torch.cat([-im, im]))).sum(3)


def _powers(system: Discretized, frames: Tensor) -> Tensor:
    """Return the (2, m, C, n) real and imaginary parts of the poles' powers by (m,) numbers of frames."""
    return torch.stack(_polar(system.log_modulus, system.angle, frames.to(system.angle.dtype).view(-1, 1, 1)))


def _polar(log_modulus: Tensor, angle: Tensor, exponents: Tensor | float) -> tuple[Tensor, Tensor]:
    """Return real and imaginary parts of powers; the arguments are of shapes that broadcast."""
    modulus = (log_modulus * exponents).exp()
    angles = angle * exponents
    return modulus * angles.cos(), modulus * angles.sin()


@dataclass(frozen=True)
class _Factor:
    """Complex numbers p as factors of numbers s whose parts are two entries of a dimension: ``s re + flip(s) turned``.

    Attributes:
        re: Re p, one entry in this dimension.
        turned: -Im p and Im p.
    """

    re: Tensor
    turned: Tensor

    @staticmethod
    def of(poles: Tensor, dim: int = 0) -> _Factor:
        """Make factors of powers of poles."""
        re, im = poles.split(1, dim)
        return _Factor(re, torch.cat([-im, im], dim))

    def split(self, sizes: Sequence[int]) -> list[_Factor]:
        """Split (2, m, C, n) parts of m powers into some of these sizes, (2, 1, 1, size, C, n) each."""
        parts = zip(self.re.split(sizes, 1), self.turned.split(sizes, 1), strict=True)
        return [_Factor(re[:, None, None], turned[:, None, None]) for re, turned in parts]

    def __len__(self) -> int:
        """Return the number of powers of a result of `split`."""
        return self.re.shape[3]

    def at(self, power: int) -> _Factor:
        """Return one of the powers of a result of `split`."""
        return _Factor(self.re[:, :, :, power : power + 1], self.turned[:, :, :, power : power + 1])


def _times(values: Tensor, factor: _Factor, dim: int = 0) -> Tensor:
    """Multiply complex numbers whose real and imaginary parts are the two entries of a dimension."""
    return values * factor.re + values.flip(dim) * factor.turned


def _parts(whole: int, part: int) -> int:
    """Return the number of parts that cover a whole; exported integers are not divided towards minus infinity."""
    return (whole + part - 1) // part
