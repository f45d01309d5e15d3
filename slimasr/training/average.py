"""The run's final weights: a running mean of parameters, after which statistics are estimated again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from slimasr.data.batches.batch import Batch
from slimasr.elastic.norm import calibration, completion, fully_estimated, running_stats
from slimasr.experiment.checkpoints import renamed
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.objective.objective import Objective
from slimasr.supernet.subnet import Subnet
from slimasr.training.distributed import ALONE, World
from slimasr.training.priors import estimate_priors


class RunningAverage:
    """Mean of all parameters that are trained over the snapshots taken so far."""

    def __init__(self) -> None:
        self.count = 0
        self.parameters: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take one snapshot."""
        self.count += 1
        for name, parameter in module.named_parameters():
            # The mean of equal numbers may differ from them in the sign of zero.
            if not parameter.requires_grad:
                continue
            # mean_n = mean_(n-1) + (x_n - mean_(n-1)) / n: one copy of the weights, however many snapshots there are.
            if self.count == 1:
                self.parameters[name] = parameter.detach().clone()
            else:
                self.parameters[name].lerp_(parameter, 1.0 / self.count)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Overwrite the parameters with their mean; without any snapshot they stay as they are."""
        for name, parameter in module.named_parameters():
            if self.count and parameter.requires_grad:
                parameter.copy_(self.parameters[name])

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for the checkpoint."""
        return {"count": self.count, "parameters": self.parameters}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore what `state_dict` returned."""
        self.count = state["count"]
        self.parameters = {name: value.to(device) for name, value in renamed(state["parameters"]).items()}


def estimate_statistics(
    objective: Objective,
    method: Method,
    batches: Callable[[], Iterable[Batch]],
    context: StepContext,
    world: World = ALONE,
) -> None:
    """Estimate what follows from the final weights: batch norm statistics, then the label priors of a CTC model.

    Args:
        objective: model and losses.
        method: the training method.
        batches: starts an iteration over this process's batches; a second one returns the same.
        context: the position of the run.
        world: this process among all of the run's.
    """
    calibrate(objective, method, batches, context)
    estimate_priors(objective, method, batches, context, world)


def calibrate(
    objective: Objective, method: Method, batches: Callable[[], Iterable[Batch]], context: StepContext
) -> None:
    """Estimate all batch norm statistics again: means over these batches, without dropout.

    `Method.calibrated` determines the subnets. Norms that none of them runs, such as those of a width that the method
    does not validate, are estimated over the largest subnet of each width instead, since every subnet of the space may
    be extracted later. This second estimation does not change the statistics of the first one. Without batch norms,
    nothing runs.

    Args:
        objective: model and losses.
        method: the training method, whose substitutes also apply here.
        context: the position of the run.
        batches: starts an iteration over the batches; a second one returns the same.
    """
    model = objective.model
    if not running_stats(model):
        return
    with calibration(model):
        _run_encoder(objective, method, method.calibrated(), batches(), context)
    if not fully_estimated(model):
        largest = [Subnet(width) for width in method.space.widths]
        with completion(model):
            _run_encoder(objective, method, largest, batches(), context)


def _run_encoder(
    objective: Objective, method: Method, subnets: Sequence[Subnet], batches: Iterable[Batch], context: StepContext
) -> None:
    """Run the encoder of every subnet on every batch, without any loss."""
    for batch in batches:
        for subnet in subnets:
            # A pass without losses runs the encoder alone.
            method.forward_pass(objective, Pass(subnet, {}), batch, context)
