"""Optimisers: parameter groups, and updates that leave chosen weights and their state untouched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from slimasr.config.schema import OptimizerConfig
from slimasr.elastic.norm import norm_parameters
from slimasr.methods.base import ParameterGroup


def build_optimizer(
    objective: nn.Module, groups: Sequence[ParameterGroup], config: OptimizerConfig
) -> torch.optim.Optimizer:
    """AdamW over the objective's parameters and the method's own groups.

    Norms, biases and embeddings take no weight decay. Every group carries ``name`` and ``lr_scale``, see
    `set_learning_rate`.
    """
    undecayed = undecayed_parameters(objective)
    trainable = [(name, p) for name, p in objective.named_parameters() if p.requires_grad]
    kept = [p for name, p in trainable if name not in undecayed]
    free = [p for name, p in trainable if name in undecayed]
    described: list[dict[str, Any]] = [
        {"name": "decayed", "params": kept, "weight_decay": config.weight_decay, "lr_scale": 1.0},
        {"name": "undecayed", "params": free, "weight_decay": 0.0, "lr_scale": 1.0},
    ]
    for group in groups:
        options = {"weight_decay": group.weight_decay, "lr_scale": group.lr_scale, "maximize": group.maximize}
        described.append({"name": group.name, "params": list(group.parameters), **options})
    filled = [group for group in described if group["params"]]
    return torch.optim.AdamW(filled, lr=config.lr, betas=config.betas, eps=config.eps)


def undecayed_parameters(module: nn.Module) -> set[str]:
    """Names of norm parameters, biases (attention's among them) and embeddings."""
    embeddings = {
        f"{name}.{parameter}"
        for name, child in module.named_modules()
        if isinstance(child, nn.Embedding)
        for parameter, _ in child.named_parameters(recurse=False)
    }
    biases = {
        name for name, p in module.named_parameters() if p.ndim <= 1 or "bias" in name.rsplit(".", 1)[-1].split("_")
    }
    return norm_parameters(module) | embeddings | biases


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set every group's rate to ``lr`` times its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def fill_missing_gradients(parameters: Mapping[str, nn.Parameter], keep: set[str]) -> None:
    """Zeros for parameters that no pass used, so that momentum and decay act on them as on unused slices.

    Those named in ``keep`` (norms) stay without gradient: the optimiser passes over them, bit for bit.
    """
    for name, parameter in parameters.items():
        if parameter.grad is None and name not in keep:
            parameter.grad = torch.zeros_like(parameter)


def mask_gradients(parameters: Mapping[str, nn.Parameter], masks: Mapping[str, Tensor]) -> None:
    """Zero gradients outside the masks, so that they count neither for clipping nor for any momentum."""
    for name, mask in masks.items():
        grad = parameters[name].grad
        if grad is not None:
            grad.masked_fill_(~mask, 0.0)


@contextmanager
def protected(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], masks: Mapping[str, Tensor]
) -> Iterator[None]:
    """Within, the optimiser may step; afterwards all entries outside the masks have their old bits.

    Covers the weights and every state tensor of a weight's shape, whatever the optimiser; state that the step
    created counts as zero before it.
    """
    before = {name: _tensors_of(optimizer, parameters[name], copy=True) for name in masks}
    yield
    with torch.no_grad():
        for name, mask in masks.items():
            for key, tensor in _tensors_of(optimizer, parameters[name], copy=False).items():
                old = before[name].get(key)
                tensor.copy_(torch.where(mask, tensor, torch.zeros_like(tensor) if old is None else old))


def _tensors_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, *, copy: bool) -> dict[str, Tensor]:
    """The weight itself (key "") and its optimiser state of the same shape."""
    state = optimizer.state.get(parameter, {})
    found = {key: value for key, value in state.items() if isinstance(value, Tensor) and value.shape == parameter.shape}
    tensors = {"": parameter.data, **found}
    return {key: value.detach().clone() for key, value in tensors.items()} if copy else tensors
