"""Diagonal state-space models (S4D), elastic in channels, in convolutional and recurrent form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from slimasr.elastic.index import take
from slimasr.supernet.cost import Count

Convolution = Literal["fft", "real"]

SLOW = ("log_dt", "log_decay", "frequency")
"""Parameters that set the memory length: trained without weight decay and with a smaller learning rate."""

READOUT = ("readout", "skip")
"""Parameters that map state and input to the output."""

BLOCK = 16
"""Frames per block of the kernel: about the square root of an utterance's length. It is a constant so that a graph of
operations traced at one length is valid at all lengths."""

CHANNELS_AT_ONCE = 512
"""Kernels are computed for this many channels at a time; more would not fit into the cache."""


@dataclass(frozen=True)
class Discretized:
    """The systems of some channels in discrete time: ``y_t = 2 Re(sum_n w_n s_tn) + D u_t``, ``s_t = p s_{t-1} + u_t``.

    The input matrix of the zero-order hold is part of the weights ``w``, so the state is a plain sum over past inputs.
    All tensors are real; n runs over the conjugate pairs.

    Attributes:
        log_modulus: (C, n), logarithm of the modulus of the pole p; below 0.
        angle: (C, n), argument of p.
        weight: (C, n) real and imaginary parts of w.
        skip: (C,), D.
    """

    log_modulus: Tensor
    angle: Tensor
    weight: tuple[Tensor, Tensor]
    skip: Tensor

    def response(self, frames: int) -> Tensor:
        """Return the (C, frames) impulse response ``2 Re sum_n w_n p_n^l``, with the skip at l = 0."""
        arguments = (self.log_modulus, self.angle, *self.weight, frames)
        # Without gradients, plain operations suffice, which an export can trace.
        response = _Response.apply(*arguments) if torch.is_grad_enabled() else _response(*arguments)
        return cast(Tensor, response) + F.pad(self.skip.unsqueeze(1), (0, frames - 1))


def _block_powers(log_modulus: Tensor, angle: Tensor, frames: int) -> tuple[tuple[Tensor, Tensor], ...]:
    """Compute two factors whose products are all powers of the poles p.

    Args:
        log_modulus: (C, n), see `Discretized`.
        angle: (C, n), see `Discretized`.
        frames: number of powers.

    Returns:
        Real and imaginary parts, (blocks, C, n) each, of ``p^(ib)`` at the starts of all blocks of b frames, and
        those, (b, C, n) each, of ``p^j`` within a block.
    """
    starts = BLOCK * torch.arange(_blocks(frames), dtype=angle.dtype, device=angle.device).view(-1, 1, 1)
    # Large powers come from the logarithm: the errors of repeated products would add up over an utterance.
    start_modulus = torch.exp(log_modulus * starts)
    start_angle = angle * starts
    modulus = log_modulus.exp()
    at_starts = (start_modulus * start_angle.cos(), start_modulus * start_angle.sin())
    return at_starts, _first_powers(modulus * angle.cos(), modulus * angle.sin())


def _first_powers(re: Tensor, im: Tensor) -> tuple[Tensor, Tensor]:
    """(C, n) parts of p -> (BLOCK, C, n) parts of p^0, p^1, ..., by doubling, because products cost less than sines."""
    powers_re = torch.ones_like(re).unsqueeze(0)
    powers_im = torch.zeros_like(im).unsqueeze(0)
    # With k powers there, re and im are the parts of p^k: multiplying by it appends k more, and squaring it doubles k.
    while len(powers_re) < BLOCK:
        powers_re, powers_im = (
            torch.cat([powers_re, powers_re * re - powers_im * im]),
            torch.cat([powers_im, powers_re * im + powers_im * re]),
        )
        re, im = re * re - im * im, 2.0 * re * im
    return powers_re, powers_im


def _response(log_modulus: Tensor, angle: Tensor, w_re: Tensor, w_im: Tensor, frames: int) -> Tensor:
    """Compute (C, frames) of ``2 Re sum_n w_n p_n^l`` from (C, n) parts of p and w.

    ``p^(ib + j) = p^(ib) p^j`` makes this one small real matrix product per channel; no tensor has the size channels x
    states x frames.
    """
    (re, im), within = _block_powers(log_modulus, angle, frames)
    # (blocks, C, 2n): [Re | -Im] of w p^(ib). Times [Re | Im] of p^j, this sums the real part of the complex product.
    left = torch.cat([w_re * re - w_im * im, -(w_re * im + w_im * re)], dim=2)
    right = torch.cat(within, dim=2)
    # (C, blocks, 2n) @ (C, 2n, b) -> (C, blocks, b), of which the last block may be longer than needed
    products = left.transpose(0, 1) @ right.permute(1, 2, 0)
    return 2.0 * products.flatten(1)[:, :frames]


class _Response(torch.autograd.Function):
    """`_response` with its gradient in closed form: powers are recomputed, not stored, in half of autograd's time.

    With g the gradient of the response, ``A = sum_l g_l p^l`` and ``B = sum_l g_l l p^l``, block by block as above, and
    p = exp(x + iy): the gradients are 2 Re A and -2 Im A for w, 2 Re (w B) for x, -2 Im (w B) for y.
    """

    @staticmethod
    def forward(ctx: Any, log_modulus: Tensor, angle: Tensor, w_re: Tensor, w_im: Tensor, frames: int) -> Tensor:
        ctx.save_for_backward(log_modulus, angle, w_re, w_im)
        return _response(log_modulus, angle, w_re, w_im, frames)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        log_modulus, angle, w_re, w_im = ctx.saved_tensors
        (re, im), within = _block_powers(log_modulus, angle, grad.shape[1])
        blocks = len(re)
        # (C, blocks, b); frames beyond the end have no gradient
        grad = F.pad(grad, (0, blocks * BLOCK - grad.shape[1])).unflatten(1, (blocks, BLOCK))
        # g l: the frame number is the derivative of p^l with respect to log p, divided by p^l.
        by_frame = grad * torch.arange(blocks * BLOCK, dtype=grad.dtype, device=grad.device).view(blocks, BLOCK)
        # (C, 2 blocks, 2n): g p^j and g l p^j, each summed over the frames of a block
        sums = torch.cat([grad, by_frame], dim=1) @ torch.cat(within, dim=2).transpose(0, 1)
        of_a, of_b = sums.transpose(0, 1).split(blocks)
        a_re, a_im = of_a.chunk(2, dim=2)
        b_re, b_im = of_b.chunk(2, dim=2)
        # Each block's sums (blocks, C, n) are multiplied by p^(ib) of its start, and all blocks are added.
        a_re, a_im = (re * a_re - im * a_im).sum(0), (re * a_im + im * a_re).sum(0)
        b_re, b_im = (re * b_re - im * b_im).sum(0), (re * b_im + im * b_re).sum(0)
        x = w_re * b_re - w_im * b_im
        y = w_re * b_im + w_im * b_re
        return 2.0 * x, -2.0 * y, 2.0 * a_re, -2.0 * a_im, None


class ElasticS4D(nn.Module):
    """One linear system per channel, single input, single output, causal (paper 2; S4D by Gu et al. 2022).

    ``lambda_n = -exp(log_decay) + i frequency``, one of each pair of conjugate states, sampled with a zero-order hold
    at the channel's own step ``dt``; ``readout`` holds C_n as (real, imaginary). The initialisation is S4D-Lin. A
    subnet uses the first channels. It is computed in real arithmetic and at least in float32, also under autocast.
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
        """Run the same system frame by frame, as a recurrence.

        Args:
            u: (N, T, C) input, any T.
            state: (N, C, n, 2), see `init_state`.

        Returns:
            (N, T, C) output and the next state.
        """
        with torch.autocast(u.device.type, enabled=False):
            system = discretize([self], u.shape[-1])
            modulus = system.log_modulus.exp()
            p_re = modulus * system.angle.cos()
            p_im = modulus * system.angle.sin()
            w_re, w_im = system.weight
            s_re, s_im = state.unbind(-1)
            outputs = []
            # s <- p s + u, then y = 2 Re sum_n w_n s_n + D u; u (N, C) is real and the same for all n.
            for frame in u.to(state.dtype).unbind(1):
                s_re, s_im = p_re * s_re - p_im * s_im + frame.unsqueeze(-1), p_re * s_im + p_im * s_re
                outputs.append(2.0 * (w_re * s_re - w_im * s_im).sum(-1) + system.skip * frame)
            # A chunk may hold no frame at all.
            out = torch.stack(outputs, dim=1).to(u.dtype) if outputs else u
            return out, torch.stack([s_re, s_im], dim=-1)

    def init_state(self, n: int, channels: int, device: torch.device) -> Tensor:
        """Return the (n, channels, pairs, 2) state before the first frame: real and imaginary parts, all zero."""
        # At least float32, as in `discretize`, because the state is a sum over the whole past.
        dtype = torch.promote_types(self.skip.dtype, torch.float32)
        return torch.zeros(n, channels, self.ssm_state // 2, 2, dtype=dtype, device=device)

    def count(self, channels: int, frames: int) -> Count:
        """Count the parameters, and the MACs of the kernel's matrix product; see `convolution_macs` for the rest."""
        # dt and D per channel; decay, frequency and the two parts of C per pair, which is half of the state
        per_channel = 2 + 2 * self.ssm_state
        return Count(params=channels * per_channel, macs=channels * self.ssm_state * BLOCK * _blocks(frames))

    def extract(self, channels: int) -> ElasticS4D:
        """Copy the first channels into stand-alone systems."""
        module = ElasticS4D(channels, self.ssm_state, self.dt_range)
        with torch.no_grad():
            for name in (*SLOW, *READOUT):
                getattr(module, name).copy_(take(getattr(self, name), channels))
        return module


def discretize(systems: Sequence[ElasticS4D], channels: int) -> Discretized:
    """Convert the first channels of each of these systems to discrete time, concatenated.

    float64 parameters stay float64; all others become float32.
    """
    # One tensor per parameter, in the order of SLOW and READOUT
    values = []
    for name in (*SLOW, *READOUT):
        value = torch.cat([take(getattr(system, name), channels) for system in systems])
        values.append(value.to(torch.promote_types(value.dtype, torch.float32)))
    log_dt, log_decay, frequency, readout, skip = values
    dt = log_dt.exp().unsqueeze(1)
    decay = log_decay.exp()
    # z = x + iy = dt lambda is the logarithm of the pole p.
    x = -dt * decay
    y = dt * frequency
    # The zero-order hold's gain is (e^z - 1) / lambda. Its numerator is computed without the cancellation at small
    # steps: Re(e^z - 1) = (e^x - 1) cos y + (cos y - 1), and cos y - 1 = -2 sin^2(y / 2).
    gain_re = torch.expm1(x) * y.cos() - 2.0 * (0.5 * y).sin().square()
    gain_im = x.exp() * y.sin()
    # Division by lambda = -decay + i frequency: multiply by the conjugate, divide by the squared modulus.
    norm = decay.square() + frequency.square()
    gain_re, gain_im = (
        (frequency * gain_im - decay * gain_re) / norm,
        -(decay * gain_im + frequency * gain_re) / norm,
    )
    c_re, c_im = readout.unbind(-1)
    weight = (c_re * gain_re - c_im * gain_im, c_re * gain_im + c_im * gain_re)
    return Discretized(x, y, weight, skip)


def kernels(systems: Sequence[ElasticS4D], channels: int, frames: int) -> list[Tensor]:
    """Compute the (channels, frames) impulse response of the first channels of each system, including the skip.

    Small systems are computed together, because the overhead of separate calls would exceed their work.
    """
    together = max(1, CHANNELS_AT_ONCE // channels)
    responses: list[Tensor] = []
    # Powers of a pole close to the unit circle need float32: half precision would lose the end of the kernel.
    with torch.autocast(systems[0].skip.device.type, enabled=False):
        for start in range(0, len(systems), together):
            response = discretize(systems[start : start + together], channels).response(frames)
            responses += response.split(channels)
    return responses


def convolve(u: Tensor, kernels: Sequence[Tensor], kind: Convolution) -> Tensor:
    """Convolve every channel with its own kernels: the first one forwards in time, a second one backwards.

    Args:
        u: (N, T, C), zero on padding; a system at rest stays at rest, so right padding has no effect.
        kernels: (C, T) for ``y_t = sum_l K_l u_{t-l}``, and optionally another for ``y_t = sum_l K_l u_{t+l}``.
        kind: ``fft``, or ``real`` for direct sums.

    Returns:
        (N, T, C) per kernel, concatenated, in the dtype of ``u``; computed in that of the kernels.
    """
    if u.shape[1] == 0:
        # No FFT has length 0.
        return torch.cat([u] * len(kernels), dim=-1)
    function = {"fft": _convolve_fft, "real": _convolve_real}[kind]
    with torch.autocast(u.device.type, enabled=False):
        by_channel = u.transpose(1, 2).to(kernels[0].dtype)
        return function(by_channel, kernels).transpose(1, 2).to(u.dtype)


def _convolve_fft(u: Tensor, kernels: Sequence[Tensor]) -> Tensor:
    """(N, C, T) -> (N, C, T) per kernel, concatenated along channels."""
    frames = u.shape[-1]
    length = _fft_length(frames)
    filters = [torch.fft.rfft(kernel, n=length) for kernel in kernels]
    # One transform of the input serves both directions: reversing a real kernel in time conjugates its spectrum.
    spectrum = torch.fft.rfft(u, n=length)
    products = []
    for index, response in enumerate(filters):
        runs_backwards = index == 1
        products.append(spectrum * (response.conj() if runs_backwards else response))
    # What wraps around, of either direction, lies beyond the first T frames, because the length is at least 2T.
    return torch.fft.irfft(torch.cat(products, dim=1), n=length)[..., :frames]


def _convolve_real(u: Tensor, kernels: Sequence[Tensor]) -> Tensor:
    """(N, C, T) -> (N, C, T) per kernel, as depthwise convolutions with filters as long as the utterance."""
    channels = u.shape[1]
    reach = u.shape[2] - 1
    outputs = []
    for index, kernel in enumerate(kernels):
        runs_backwards = index == 1
        # `conv1d` correlates, which is the backward direction as it stands; the forward one needs the kernel reversed
        # and the past, instead of the future, padded.
        if runs_backwards:
            padded = F.pad(u, (0, reach))
            taps = kernel
        else:
            padded = F.pad(u, (reach, 0))
            taps = kernel.flip(-1)
        outputs.append(F.conv1d(padded, taps.unsqueeze(1), groups=channels))
    return torch.cat(outputs, dim=1)


def convolution_macs(channels: int, directions: int, frames: int, kind: Convolution) -> int:
    """Count the MACs of `convolve` on one utterance.

    A real FFT of length n counts as 2.5 n log2 n operations, half of them multiplications. Every direction adds a
    transform of its kernel, an inverse one, and n / 2 + 1 complex products. Direct sums take T products per output.
    """
    if kind == "real" or frames == 0:
        return channels * directions * frames * frames
    length = _fft_length(frames)
    # Half of 2.5 n log2 n, as only multiplications count; a complex product has four of them.
    transform = 1.25 * length * math.log2(length)
    return round(channels * ((1 + 2 * directions) * transform + directions * 4 * (length // 2 + 1)))


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


def _blocks(frames: int) -> int:
    """Return the number of blocks that cover ``frames``."""
    return (frames + BLOCK - 1) // BLOCK


def _fft_length(frames: int) -> int:
    """Return an even length of at least 2T, which avoids wrap-around, with a fast transform."""
    return 2 * int(next_fast_len(frames, real=True))
