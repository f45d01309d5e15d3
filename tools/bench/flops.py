"""Floating-point operations of a call, with the operations that torch's counter leaves out or counts wrongly.

`FlopCounterMode` has no formula for FFTs, and counts the backward pass of a grouped convolution as if the convolution
had one group: 256 times too much for a depthwise convolution of 256 channels. Like torch's counter, this one counts
products and sums of matrix products and convolutions, and nothing of element-wise operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten
Shape = Sequence[int]


@dataclass(frozen=True)
class Flops:
    """The operations of one call.

    Attributes:
        products: those of matrix products and convolutions.
        transforms: those of FFTs, which run far below the speed of a matrix product and are therefore kept apart.
    """

    products: int
    transforms: int


def count_flops(call: Callable[[], object]) -> Flops:
    """Run ``call()`` once and count its operations, those of the backward pass included."""
    counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
    with counter:
        call()
    by_operation = counter.get_flop_counts().get("Global", {})
    transforms = sum(flops for operation, flops in by_operation.items() if operation in TRANSFORMS)
    return Flops(sum(by_operation.values()) - transforms, transforms)


def convolution_backward(
    grad_output: Shape,
    x: Shape,
    weight: Shape,
    bias: object,
    stride: object,
    padding: object,
    dilation: object,
    transposed: bool,
    output_padding: object,
    groups: int,
    output_mask: Sequence[bool],
    out_shape: object = None,
) -> int:
    """Count the backward pass of a convolution, which does the forward pass's work once per gradient it computes.

    Args:
        weight: (C_out, C_in / groups, ...), so its number of elements is the work at one position for any groups; a
            transposed convolution has (C_in, C_out / groups, ...), and its positions are those of the input.
        output_mask: whether the gradients of input, weight and bias are wanted; that of the bias is a plain sum.
    """
    batch_size, _, *positions = x if transposed else grad_output
    gradients = sum(output_mask[:2])
    return 2 * batch_size * math.prod(positions) * math.prod(weight) * gradients


def real_to_complex(x: Shape, dim: Sequence[int], *settings: Any, out_shape: object = None, **named: Any) -> int:
    """Count FFTs of real numbers over the dimensions ``dim`` of ``x``."""
    return round(0.5 * _complex_fft([x[axis] for axis in dim], math.prod(x)))


def complex_to_real(
    x: Shape, dim: Sequence[int], normalization: int, last_dim_size: int, out_shape: object = None
) -> int:
    """Count inverse FFTs to ``last_dim_size`` real numbers along the last one of the dimensions ``dim``."""
    lengths = [*(x[axis] for axis in dim[:-1]), last_dim_size]
    return round(0.5 * _complex_fft(lengths, math.prod(x) // x[dim[-1]] * last_dim_size))


def complex_to_complex(x: Shape, dim: Sequence[int], *settings: Any, out_shape: object = None, **named: Any) -> int:
    """Count FFTs of complex numbers over the dimensions ``dim`` of ``x``."""
    return round(_complex_fft([x[axis] for axis in dim], math.prod(x)))


def _complex_fft(lengths: Sequence[int], elements: int) -> float:
    """Return the usual count of 5 n log2 n operations for each complex FFT of length n; a real one takes half."""
    return 5.0 * elements * sum(map(math.log2, lengths))


TRANSFORMS = {
    aten._fft_r2c: real_to_complex,
    aten._fft_c2r: complex_to_real,
    aten._fft_c2c: complex_to_complex,
}
FORMULAS: dict[Any, Callable[..., int]] = {aten.convolution_backward: convolution_backward, **TRANSFORMS}
