"""Weights rounded to int8, in torch: a search can measure their WER, which is close to that of a device's int8 file.

As in paper 2, section 5, quantisation is symmetric and concerns the weights of linear layers, LSTMs and embeddings;
everything else stays float32. Each output channel has one scale, max|w| / 127. Scales belong to the slice that is
stored, so a subnet is first extracted and then rounded.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from slimasr.models.base import SpeechModel
from slimasr.supernet.subnet import Subnet

LEVELS = 127
"""The largest int8 value; -128 is not used, so that the range is symmetric."""


def quantized_weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the names and the (rows, columns) weights that int8 stores in one byte, each row with its own scale.

    `slimasr.supernet.cost.Count.quantized` counts the same weights.
    """
    for prefix, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.LSTM | nn.Embedding):
            for name, parameter in module.named_parameters(recurse=False):
                # An LSTM has ``weight_ih_l0``, ``weight_hh_l0`` and so on; biases stay float32.
                if name.startswith("weight"):
                    yield f"{prefix}.{name}", parameter


def scales(weight: Tensor) -> Tensor:
    """(rows, columns) -> (rows,) float32 scales, max|w| / 127; above 0 even for a row of zeros, to divide by."""
    return (weight.abs().amax(dim=1) / LEVELS).clamp(min=torch.finfo(torch.float32).tiny)


def fake_quantized(model: SpeechModel, subnet: Subnet | None = None) -> SpeechModel:
    """Make a stand-alone copy whose weights are rounded to the values that int8 can hold.

    Args:
        model: the model, which is not changed.
        subnet: the subnet to extract first, None = the model is already stand-alone.
    """
    rounded = copy.deepcopy(model) if subnet is None else model.extract(subnet)
    with torch.no_grad():
        for _, weight in quantized_weights(rounded):
            zeros = torch.zeros(len(weight), dtype=torch.int32, device=weight.device)
            # One scale and zero point per row, which is axis 0.
            values = torch.fake_quantize_per_channel_affine(weight, scales(weight), zeros, 0, -LEVELS, LEVELS)
            weight.copy_(values)
    return rounded
