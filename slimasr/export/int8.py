"""Weights as int8 sees them, in torch: the fitness of a search, and what a device's file comes close to.

Paper 2, section 5: symmetric, weights of linear layers, LSTMs and embeddings; everything else stays float32. One
scale per output channel, max|w| / 127. Scales belong to the slice that is stored, so a subnet is cut out first and
rounded then.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet

LEVELS = 127


def quantized_weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and (rows, columns) weights that int8 stores in one byte, each row with a scale of its own.

    They are those that `slimasr.supernet.cost.Count.quantized` counts.
    """
    for prefix, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.LSTM | nn.Embedding):
            for name, parameter in module.named_parameters(recurse=False):
                if name.startswith("weight"):
                    yield f"{prefix}.{name}", parameter


def scales(weight: Tensor) -> Tensor:
    """(rows, columns) -> (rows,) float32 scales, max|w| / 127; above 0 also where a row is zero."""
    return (weight.abs().amax(dim=1) / LEVELS).clamp(min=torch.finfo(torch.float32).tiny)


def fake_quantized(model: Transducer, subnet: Subnet | None = None) -> Transducer:
    """A stand-alone copy whose weights are rounded to the values that int8 can hold.

    Args:
        model: left as it is.
        subnet: cut out of the model first; None = the model is stand-alone already.
    """
    rounded = copy.deepcopy(model) if subnet is None else model.extract(subnet)
    with torch.no_grad():
        for _, weight in quantized_weights(rounded):
            zeros = torch.zeros(len(weight), dtype=torch.int32, device=weight.device)
            weight.copy_(torch.fake_quantize_per_channel_affine(weight, scales(weight), zeros, 0, -LEVELS, LEVELS))
    return rounded
