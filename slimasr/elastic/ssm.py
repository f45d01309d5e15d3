"""Diagonal state-space models (S4D), elastic in channels, in convolutional and recurrent form."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from slimasr.elastic.impulse_response import (
    BLOCK,
    Discretized,
    Parameters,
    blocks_of,
    discretize,
    impulse_response,
)
from slimasr.elastic.index import take
from slimasr.supernet.cost import Count

SLOW = ("log_dt", "log_decay", "frequency")
"""Parameters that set the memory length: trained without weight decay and with a smaller learning rate."""

READOUT = ("readout", "skip")
"""Parameters that map state and input to the output."""

CHANNELS_AT_ONCE = 512
"""Kernels are computed for this many channels at a time; more would not fit into the cache."""


class ElasticS4D(nn.Module):
    """One linear system per channel, single input, single output, causal (paper 2; S4D by Gu et al. 2022).

    ``lambda_n = -exp(log_decay) + i frequency``, one of each pair of conjugate states, sampled with a zero-order hold
    at the channel's own step ``dt``; ``readout`` holds C_n as (real, imaginary). The initialisation is S4D-Lin. A
    subnet uses the first channels. It is computed at least in float32, also under autocast; without gradients and by
    direct sums or blocks, in real arithmetic throughout.
    """

    def __init__(self, channels: int, ssm_state: int, dt_range: tuple[float, float], decay: float = 0.5) -> None:
        """Initialise as S4D-Lin: equal decays, and frequencies 0, pi, 2 pi, ...

        Args:
            channels: number of systems.
            ssm_state: real numbers in the state of a channel, an even number.
            dt_range: range of the initial time steps, which are drawn uniformly on a log scale.
            decay: minus the initial real part of all lambda; a kernel decays by a factor e in 1 / (dt decay) frames.
        """
        super().__init__()
        # One of each conjugate pair is stored; the other contributes the same real part, hence the factors of 2.
        pairs = ssm_state // 2
        low, high = (math.log(step) for step in dt_range)
        self.dt_range = dt_range
        # Steps and decays are stored as logarithms, which keeps them positive: no system can become unstable.
        self.log_dt = nn.Parameter(low + (high - low) * torch.rand(channels))
        self.log_decay = nn.Parameter(torch.full((channels, pairs), math.log(decay)))
        self.frequency = nn.Parameter(math.pi * torch.arange(pairs, dtype=torch.float32).repeat(channels, 1))
        # C_n with unit variance: half of it in each of its two parts
        self.readout = nn.Parameter(math.sqrt(0.5) * torch.randn(channels, pairs, 2))
        self.skip = nn.Parameter(torch.randn(channels))

    @property
    def ssm_state(self) -> int:
        """Number of real numbers in the state of one channel."""
        return 2 * self.log_decay.shape[1]

    def kernel(self, channels: int, frames: int) -> Tensor:
        """Return the (channels, frames) impulse response, including the skip."""
        return kernels([self], channels, frames)[0]

    def recur(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the same system frame by frame: `recur`, for (N, T, C) input and a state of `init_state`."""
        return recur(u, state, discretized([self], u.shape[-1]))

    def init_state(self, n: int, channels: int, device: torch.device) -> Tensor:
        """Return the (n, channels, 2, pairs) state before the first frame: real and imaginary parts, all zero."""
        # At least float32, as in `gather`, because the state is a sum over the whole past.
        dtype = torch.promote_types(self.skip.dtype, torch.float32)
        return torch.zeros(n, channels, 2, self.ssm_state // 2, dtype=dtype, device=device)

    def count(self, channels: int, frames: int) -> Count:
        """Count the parameters, and the MACs of the kernel's matrix product; see `convolution_macs` for the rest."""
        # dt and D per channel; decay, frequency and the two parts of C per pair, which is half of the state
        per_channel = 2 + 2 * self.ssm_state
        return Count(params=channels * per_channel, macs=channels * self.ssm_state * BLOCK * blocks_of(frames))

    def extract(self, channels: int) -> ElasticS4D:
        """Copy the first channels into stand-alone systems."""
        module = ElasticS4D(channels, self.ssm_state, self.dt_range)
        with torch.no_grad():
            for name in (*SLOW, *READOUT):
                getattr(module, name).copy_(take(getattr(self, name), channels))
        return module


def gather(systems: Sequence[ElasticS4D], channels: int) -> Parameters:
    """Concatenate the parameters of the first channels of each of these systems.

    float64 parameters stay float64; all others become float32.
    """
    values = {}
    for name in (*SLOW, *READOUT):
        value = torch.cat([take(getattr(system, name), channels) for system in systems])
        values[name] = value.to(torch.promote_types(value.dtype, torch.float32))
    return Parameters(**values)


def discretized(systems: Sequence[ElasticS4D], channels: int) -> Discretized:
    """Return the first channels of each of these systems in discrete time."""
    # As for the kernels, half precision would be too little.
    with torch.autocast(systems[0].skip.device.type, enabled=False):
        return discretize(gather(systems, channels))


def kernels(systems: Sequence[ElasticS4D], channels: int, frames: int) -> list[Tensor]:
    """Compute the (channels, frames) impulse response of the first channels of each system, including the skip.

    Small systems are computed together, because the overhead of separate calls would exceed their work.
    """
    together = max(1, CHANNELS_AT_ONCE // channels)
    responses: list[Tensor] = []
    # Powers of a pole close to the unit circle need float32: half precision would lose the end of the kernel.
    with torch.autocast(systems[0].skip.device.type, enabled=False):
        for start in range(0, len(systems), together):
            response = impulse_response(gather(systems[start : start + together], channels), frames)
            responses += response.split(channels)
    return responses


def recur(u: Tensor, state: Tensor, system: Discretized) -> tuple[Tensor, Tensor]:
    """Run systems frame by frame.

    Args:
        u: (N, T, C) input, any T.
        state: (N, C, 2, n), real and imaginary parts of the state after the last frame before.
        system: the systems of the C channels.

    Returns:
        (N, T, C) output and the next state.
    """
    with torch.autocast(u.device.type, enabled=False):
        modulus = system.log_modulus.exp()
        p_re = modulus * system.angle.cos()
        p_im = modulus * system.angle.sin()
        w_re, w_im = system.weight
        s_re, s_im = state.unbind(2)
        outputs = []
        # s <- p s + u, then y = 2 Re sum_n w_n s_n + D u; u (N, C) is real and the same for all n.
        for frame in u.to(state.dtype).unbind(1):
            s_re, s_im = p_re * s_re - p_im * s_im + frame.unsqueeze(-1), p_re * s_im + p_im * s_re
            outputs.append(2.0 * (w_re * s_re - w_im * s_im).sum(-1) + system.skip * frame)
        # A chunk may hold no frame at all.
        out = torch.stack(outputs, dim=1).to(u.dtype) if outputs else u
        return out, torch.stack([s_re, s_im], dim=2)


def ssm_parameters(module: nn.Module) -> set[str]:
    """Return the names of time scales and poles, which have no weight decay and a small learning rate (paper 2).

    C and D are ordinary weights with the common learning rate; see `readout_parameters`.
    """
    return _named(module, SLOW)


def readout_parameters(module: nn.Module) -> set[str]:
    """Return the names of C and D of every system; like all parameters of the systems, they have no weight decay."""
    return _named(module, READOUT)


def _named(module: nn.Module, parameters: tuple[str, ...]) -> set[str]:
    names: set[str] = set()
    for name, child in module.named_modules():
        if isinstance(child, ElasticS4D):
            # The module itself may be a system; its name is empty.
            prefix = f"{name}." if name else ""
            names |= {prefix + parameter for parameter in parameters}
    return names
