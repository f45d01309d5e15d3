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
from slimasr.methods.phases import ParameterGroup
from slimasr.training.scaled_adam import ScaledAdam

SSM = "ssm"


def build_optimizer(
    objective: nn.Module, groups: Sequence[ParameterGroup], config: OptimizerConfig
) -> torch.optim.Optimizer:
    """Build the configured optimiser over the objective's parameters and the method's own groups.

    Every group has ``name`` and ``lr_scale``, see `set_learning_rate`. ScaledAdam has no weight decay. It takes plain
    Adam steps for time scales and poles, because the magnitude of a logarithm or a frequency does not determine a
    suitable step size, and its limit on magnitudes would reduce high frequencies. It does so for the method's own
    parameters, such as scores, as well, and these do not count in its clipping.
    """
    # Many models have no state-space layer, and so no parameters in that group.
    own = [group for group in objective_groups(objective, config) if group.parameters]
    if config.kind == "scaled_adam":
        options = config.model_dump(exclude={"kind", "ssm_lr_scale"})
        of_model = [described(group) | {"relative": group.name != SSM} for group in own]
        of_method = [described(group) | {"relative": False, "clipped": False} for group in groups]
        return ScaledAdam([*of_model, *of_method], **options)
    with_decay = [described(group) | {"weight_decay": group.weight_decay} for group in (*own, *groups)]
    return torch.optim.AdamW(with_decay, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def described(group: ParameterGroup) -> dict[str, Any]:
    """Return a parameter group in the form that every optimiser accepts."""
    options: dict[str, Any] = {"name": group.name, "params": list(group.parameters)}
    options |= {"lr_scale": group.lr_scale, "maximize": group.maximize}
    return options if group.eps is None else options | {"eps": group.eps}


def objective_groups(objective: nn.Module, config: OptimizerConfig) -> list[ParameterGroup]:
    """Divide the parameters into three groups.

    Weights have weight decay. Norms, biases, embeddings and read-outs have none. Time scales and poles have none
    either, and a small learning rate.
    """
    undecayed = undecayed_parameters(objective)
    slow = ssm_parameters(objective)
    parts: dict[str, list[nn.Parameter]] = {"decayed": [], "undecayed": [], SSM: []}
    for name, parameter in objective.named_parameters():
        if not parameter.requires_grad:
            continue
        # A time scale may also be one-dimensional, as a bias is, so its group is tested first.
        if name in slow:
            parts[SSM].append(parameter)
        elif name in undecayed:
            parts["undecayed"].append(parameter)
        else:
            parts["decayed"].append(parameter)
    weight_decay = config.weight_decay if config.kind == "adamw" else 0.0
    return [
        ParameterGroup("decayed", parts["decayed"], weight_decay=weight_decay),
        ParameterGroup("undecayed", parts["undecayed"]),
        ParameterGroup(SSM, parts[SSM], lr_scale=config.ssm_lr_scale),
    ]


def undecayed_parameters(module: nn.Module) -> set[str]:
    """Return names of norm parameters, biases (including attention's), embeddings and read-outs of SSM layers."""
    embeddings: set[str] = set()
    for name, child in module.named_modules():
        if isinstance(child, nn.Embedding):
            embeddings.update(f"{name}.{key}" for key, _ in child.named_parameters(recurse=False))
    biases: set[str] = set()
    for name, parameter in module.named_parameters():
        # Attention's positional biases are matrices, (heads, channels), which only their names show.
        words = name.rsplit(".", 1)[-1].split("_")
        if parameter.ndim <= 1 or "bias" in words:
            biases.add(name)
    return norm_parameters(module) | embeddings | biases | readout_parameters(module)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set every group's learning rate to ``lr`` times its scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def fill_missing_gradients(parameters: Mapping[str, nn.Parameter], keep: set[str]) -> None:
    """Set zero gradients for parameters that no pass used, so that momentum and decay act on them as on unused slices.

    Parameters in ``keep`` (norms) stay without gradient: the optimiser skips them, and they stay bit-identical.
    """
    for name, parameter in parameters.items():
        if parameter.grad is None and name not in keep:
            parameter.grad = torch.zeros_like(parameter)


def mask_gradients(parameters: Mapping[str, nn.Parameter], masks: Mapping[str, Tensor]) -> None:
    """Set gradients outside the masks to zero, so that they affect neither clipping nor momentum."""
    for name, mask in masks.items():
        grad = parameters[name].grad
        if grad is not None:
            grad.masked_fill_(~mask, 0.0)


@contextmanager
def protected(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], masks: Mapping[str, Tensor]
) -> Iterator[None]:
    """Restore all entries outside the masks after the block, in which the optimiser may step.

    This covers the weights and every state tensor with a weight's shape, for any optimiser; state that the step created
    counts as zero before it. State of a whole tensor (its number of steps; with ScaledAdam also what it learns about
    the tensor's size) is updated: all masks share it, and masked gradients do not contribute to it.
    """
    # Any optimiser may move an entry with gradient 0, by its momentum or decay; so the old values are written back.
    before = {name: _tensors_of(optimizer, parameters[name], copy=True) for name in masks}
    yield
    with torch.no_grad():
        for name, mask in masks.items():
            for key, tensor in _tensors_of(optimizer, parameters[name], copy=False).items():
                old = before[name].get(key)
                if old is None:
                    old = torch.zeros_like(tensor)
                torch.where(mask, tensor, old, out=tensor)


def restart_entries(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], masks: Mapping[str, Tensor]
) -> None:
    """Set the state of the entries inside the masks to zero, as a new optimiser would begin with them.

    This covers every state tensor with a weight's shape, for any optimiser; the weights stay as they are, and so does
    state of a whole tensor, such as its number of steps.
    """
    for name, mask in masks.items():
        for key, tensor in _tensors_of(optimizer, parameters[name], copy=False).items():
            if key:
                tensor.masked_fill_(mask, 0.0)


def _tensors_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, *, copy: bool) -> dict[str, Tensor]:
    """Return the weight (key "") and its optimiser state of the same shape."""
    tensors = {"": parameter.data}
    for key, value in optimizer.state.get(parameter, {}).items():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            tensors[key] = value
    if not copy:
        return tensors
    return {key: value.detach().clone() for key, value in tensors.items()}
