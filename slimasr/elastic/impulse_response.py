"""Impulse responses of diagonal state-space systems, from their parameters, with the gradient in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 16
"""Frames per block of the response: about the square root of an utterance's length. It is a constant so that a graph of
operations traced at one length is valid at all lengths."""


@dataclass(frozen=True)
class Parameters:
    """What some channels learn: ``lambda_n = -exp(log_decay) + i frequency``, one of each pair of conjugate states.

    Attributes:
        log_dt: (C,), logarithm of the time step.
        log_decay: (C, n).
        frequency: (C, n).
        readout: (C, n, 2), real and imaginary parts of C_n.
        skip: (C,), D.
    """

    log_dt: Tensor
    log_decay: Tensor
    frequency: Tensor
    readout: Tensor
    skip: Tensor


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


def discretize(system: Parameters) -> Discretized:
    """Convert the systems to discrete time with a zero-order hold."""
    x, y, gain_re, gain_im = _sample(system.log_dt, system.log_decay, system.frequency)
    c_re, c_im = system.readout.unbind(-1)
    weight = (c_re * gain_re - c_im * gain_im, c_re * gain_im + c_im * gain_re)
    return Discretized(x, y, weight, system.skip)


def impulse_response(system: Parameters, frames: int) -> Tensor:
    """Return the (C, frames) response ``2 Re sum_n w_n p_n^l``, with the skip at l = 0."""
    if torch.is_grad_enabled():
        values = (system.log_dt, system.log_decay, system.frequency, system.readout, system.skip)
        return cast(Tensor, _Response.apply(frames, *values))
    # Without gradients, plain operations on real numbers suffice, which an export can trace.
    return _response(discretize(system), frames)


def blocks_of(frames: int) -> int:
    """Return the number of blocks that cover ``frames``."""
    return (frames + BLOCK - 1) // BLOCK


def _sample(log_dt: Tensor, log_decay: Tensor, frequency: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (C, n) parts of z = dt lambda, the logarithm of the pole, and of the hold's gain (e^z - 1) / lambda."""
    dt = log_dt.exp().unsqueeze(1)
    decay = log_decay.exp()
    # z = x + iy
    x = -dt * decay
    y = dt * frequency
    # The gain's numerator is computed without the cancellation at small steps: Re(e^z - 1) = (e^x - 1) cos y +
    # (cos y - 1), and cos y - 1 = -2 sin^2(y / 2).
    re = torch.expm1(x) * y.cos() - 2.0 * (0.5 * y).sin().square()
    im = x.exp() * y.sin()
    # Division by lambda = -decay + i frequency: multiply by the conjugate, divide by the squared modulus.
    norm = decay.square() + frequency.square()
    return x, y, (frequency * im - decay * re) / norm, -(decay * im + frequency * re) / norm


def _powers(x: Tensor, y: Tensor, exponents: Tensor) -> tuple[Tensor, Tensor]:
    """Compute powers of the poles from their logarithms: errors of repeated products would add up over an utterance.

    Args:
        x, y: (C, n), parts of the logarithms.
        exponents: (m,).

    Returns:
        Real and imaginary parts, (m, C, n) each.
    """
    exponents = exponents.view(-1, 1, 1)
    modulus = (x * exponents).exp()
    angle = y * exponents
    return modulus * angle.cos(), modulus * angle.sin()


def _starts(frames: int, like: Tensor) -> Tensor:
    """Return the first frames of all blocks, in the dtype and on the device of another tensor."""
    return BLOCK * torch.arange(blocks_of(frames), dtype=like.dtype, device=like.device)


def _response(system: Discretized, frames: int) -> Tensor:
    """Compute the response with real operations.

    ``p^(ib + j) = p^(ib) p^j`` makes this one small real matrix product per channel; no tensor has the size channels x
    states x frames.
    """
    re, im = _powers(system.log_modulus, system.angle, _starts(frames, system.angle))
    within = _powers(system.log_modulus, system.angle, torch.arange(BLOCK, dtype=re.dtype, device=re.device))
    w_re, w_im = system.weight
    # (blocks, C, 2n): [Re | -Im] of w p^(ib). Times [Re | Im] of p^j, this sums the real part of the complex product.
    left = torch.cat([w_re * re - w_im * im, -(w_re * im + w_im * re)], dim=2)
    right = torch.cat(within, dim=2)
    # (C, blocks, 2n) @ (C, 2n, b) -> (C, blocks, b), of which the last block may be longer than needed
    products = left.transpose(0, 1) @ right.permute(1, 2, 0)
    return 2.0 * products.flatten(1)[:, :frames] + F.pad(system.skip.unsqueeze(1), (0, frames - 1))


class _Response(torch.autograd.Function):
    """`impulse_response` with its gradient in closed form.

    It takes a fraction of autograd's operations; the powers are computed twice rather than stored. Complex numbers are
    read in place as pairs of real ones, which the matrix products of `_response` sum as well as separate halves.

    With g the gradient of the response, let ``A = sum_l g_l p^l`` and ``B = sum_l g_l l p^l``. With c the readout, b
    the hold's gain, w = c b and z = dt lambda, the derivative is the real part of

        2 (A dw + w B dz),  dw = b dc + c db,  db = ((b lambda + 1) dz - b dlambda) / lambda,

    because e^z = b lambda + 1. With Q = A c / lambda, this is

        2 (A b dc + (Q + w (A + B)) dz - Q b dlambda),  dz = dt dlambda + z dlog_dt.

    The two terms of dlambda with Q are taken together, as Q (dt - b): at small steps, b is almost dt.
    """

    @staticmethod
    def forward(
        ctx: Any, frames: int, log_dt: Tensor, log_decay: Tensor, frequency: Tensor, readout: Tensor, skip: Tensor
    ) -> Tensor:
        x, y, gain_re, gain_im = _sample(log_dt, log_decay, frequency)
        gain = torch.complex(gain_re, gain_im)
        ctx.save_for_backward(log_dt, log_decay, frequency, readout, x, y, gain)
        starts, within = _complex_powers(x, y, frames)
        left = torch.conj_physical(torch.view_as_complex(readout.contiguous()) * gain * starts)
        # (C, blocks, 2n) @ (C, 2n, b), as in `_response`
        products = _pairs(left).transpose(0, 1) @ _pairs(within).permute(1, 2, 0)
        response = 2.0 * products.flatten(1)[:, :frames]
        # No frame at all is also a length.
        response[:, :1] += skip.unsqueeze(1)
        return response

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        log_dt, log_decay, frequency, readout, x, y, gain = ctx.saved_tensors
        a, b = _moments(grad, *_complex_powers(x, y, grad.shape[1]))
        dt = log_dt.exp().unsqueeze(1)
        rate = torch.complex(-log_decay.exp(), frequency)
        c = torch.view_as_complex(readout.contiguous())
        q = a * c / rate
        weighted = c * gain * (a + b)
        of_rate = q * (dt - gain) + dt * weighted
        of_log_dt = 2.0 * ((q + weighted) * torch.complex(x, y)).real.sum(1)
        of_log_decay = 2.0 * of_rate.real * rate.real
        of_readout = 2.0 * torch.view_as_real(torch.conj_physical(a * gain))
        return None, of_log_dt, of_log_decay, -2.0 * of_rate.imag, of_readout, grad[:, :1].sum(1)


def _complex_powers(x: Tensor, y: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Return (blocks, C, n) powers ``p^(ib)`` at the starts of blocks of b frames, and (b, C, n) ``p^j`` within one."""
    starts = torch.complex(*_powers(x, y, _starts(frames, x)))
    (power,) = torch.complex(*_powers(x, y, torch.ones(1, dtype=x.dtype, device=x.device)))
    within = torch.empty(BLOCK, *power.shape, dtype=power.dtype, device=power.device)
    within[0] = 1.0
    known = 1
    # By doubling, because products cost less than sines: with k powers there, multiplying by p^k appends k more.
    while known < BLOCK:
        torch.mul(within[:known], power, out=within[known : 2 * known])
        power = power * power
        known *= 2
    return starts, within


def _pairs(values: Tensor) -> Tensor:
    """(..., n) complex numbers -> (..., 2n) real ones, without a copy."""
    return torch.view_as_real(values).flatten(-2)


def _moments(grad: Tensor, starts: Tensor, within: Tensor) -> tuple[Tensor, Tensor]:
    """Return (C, n) sums over l of ``g_l p^l`` and ``g_l l p^l``.

    Args:
        grad: (C, T), g.
        starts, within: see `_complex_powers`.
    """
    blocks = len(starts)
    # (C, blocks, b); frames beyond the end have no gradient
    grad = F.pad(grad, (0, blocks * BLOCK - grad.shape[1])).unflatten(1, (blocks, BLOCK))
    by_frame = grad * torch.arange(blocks * BLOCK, dtype=grad.dtype, device=grad.device).view(blocks, BLOCK)
    # (C, 2 blocks, 2n): g p^j and g l p^j, each summed over the frames of a block
    sums = torch.cat([grad, by_frame], dim=1) @ _pairs(within).transpose(0, 1)
    # Each block's sums are multiplied by p^(ib) of its start, and all blocks are added: (C, 2, blocks, n) -> (C, 2, n).
    by_block = torch.view_as_complex(sums.unflatten(2, (-1, 2))).unflatten(1, (2, blocks))
    a, b = (by_block * starts.transpose(0, 1).unsqueeze(1)).sum(2).unbind(1)
    return a, b
