"""The run's final weights: a running mean of parameters, then batch norms estimated anew for every subnet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from slimasr.data.batch import Batch
from slimasr.elastic.norm import calibration
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.objective.objective import Objective
from slimasr.supernet.subnet import Subnet


class RunningAverage:
    """Mean of all parameters over the snapshots taken so far."""

    def __init__(self) -> None:
        self.count = 0
        self.parameters: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take one snapshot."""
        self.count += 1
        for name, parameter in module.named_parameters():
            if self.count == 1:
                self.parameters[name] = parameter.detach().clone()
            else:
                self.parameters[name].lerp_(parameter, 1.0 / self.count)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Overwrite the parameters by their mean; without any snapshot they stay."""
        for name, parameter in module.named_parameters():
            if self.count:
                parameter.copy_(self.parameters[name])

    def state_dict(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {"count": self.count, "parameters": self.parameters}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Inverse of `state_dict`."""
        self.count = state["count"]
        self.parameters = {name: value.to(device) for name, value in state["parameters"].items()}


def calibrate(
    objective: Objective,
    method: Method,
    subnets: Sequence[Subnet],
    batches: Iterable[Batch],
    context: StepContext,
) -> None:
    """Estimate batch norm statistics anew: the mean over these batches, for every subnet, without dropout.

    A pass without losses runs the encoder alone.
    """
    with calibration(objective.model):
        for batch in batches:
            for subnet in subnets:
                method.forward_pass(objective, Pass(subnet, {}), batch, context)
