"""Optimisers: parameter groups, and updates that leave chosen weights and their state untouched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from slimasr.config.training import OptimizerConfig
from slimasr.elastic.norm import norm_parameters
from slimasr.elastic.ssm import readout_parameters, ssm_parameters
from slimasr.methods.base import ParameterGroup
from slimasr.training.scaled_adam import ScaledAdam

SSM = "ssm"


def build_optimizer(
    objective: nn.Module, groups: Sequence[ParameterGroup], config: OptimizerConfig
) -> torch.optim.Optimizer:
    """The optimiser that the configuration names, over the objective's parameters and the method's own groups.

    Every group carries ``name`` and ``lr_scale``, see `set_learning_rate`. ScaledAdam has no weight decay, and takes
    plain Adam steps for time scales and poles: the size of a logarithm or of a frequency says nothing about the step
    that it bears, and its limit on sizes would pull high frequencies down.
    """
    filled = [group for group in (*objective_groups(objective, config), *groups) if group.parameters]
    if config.kind == "scaled_adam":
        options = config.model_dump(exclude={"kind", "ssm_lr_scale"})
        return ScaledAdam([described(group) | {"relative": group.name != SSM} for group in filled], **options)
    with_decay = [described(group) | {"weight_decay": group.weight_decay} for group in filled]
    return torch.optim.AdamW(with_decay, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def described(group: ParameterGroup) -> dict[str, Any]:
    """A group as every optimiser takes it."""
    parameters = list(group.parameters)
    return {"name": group.name, "params": parameters, "lr_scale": group.lr_scale, "maximize": group.maximize}


def objective_groups(objective: nn.Module, config: OptimizerConfig) -> list[ParameterGroup]:
    """Weights that decay; norms, biases, embeddings and read-outs, which do not; time scales and poles, which learn
    slowly as well."""
    undecayed, slow = undecayed_parameters(objective), ssm_parameters(objective)
    parts: dict[str, list[nn.Parameter]] = {"decayed": [], "undecayed": [], SSM: []}
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            parts[SSM if name in slow else "undecayed" if name in undecayed else "decayed"].append(parameter)
    weight_decay = config.weight_decay if config.kind == "adamw" else 0.0
    return [
        ParameterGroup("decayed", parts["decayed"], weight_decay=weight_decay),
        ParameterGroup("undecayed", parts["undecayed"]),
        ParameterGroup(SSM, parts[SSM], lr_scale=config.ssm_lr_scale),
    ]


def undecayed_parameters(module: nn.Module) -> set[str]:
    """Names of norm parameters, biases (attention's among them), embeddings and read-outs of state space models."""
    embeddings = {
        f"{name}.{parameter}"
        for name, child in module.named_modules()
        if isinstance(child, nn.Embedding)
        for parameter, _ in child.named_parameters(recurse=False)
    }
    biases = {
        name for name, p in module.named_parameters() if p.ndim <= 1 or "bias" in name.rsplit(".", 1)[-1].split("_")
    }
    return norm_parameters(module) | embeddings | biases | readout_parameters(module)


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
    created counts as zero before it. State of a whole tensor (its steps; with ScaledAdam also what it learns about
    its size) goes on: all masks share it, and masked gradients add nothing to it.
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
