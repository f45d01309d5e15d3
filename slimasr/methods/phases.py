"""What a method says about the optimiser: groups of its own parameters, and stretches of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from slimasr.config.training import OptimizerConfig, ScheduleConfig


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that the optimiser treats alike, such as those that belong to the method.

    Attributes:
        name: name of the group, which no other group has.
        parameters: the parameters.
        lr_scale: factor on the learning rate.
        weight_decay: decoupled weight decay; ScaledAdam has none.
        maximize: whether the loss is maximised, not minimised.
        eps: added to the root of the mean square gradient; None = the optimiser's own.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    lr_scale: float = 1.0
    weight_decay: float = 0.0
    maximize: bool = False
    eps: float | None = None


@dataclass(frozen=True)
class Phase:
    """A stretch of the run with its own optimiser and schedule.

    Attributes:
        optimizer_id: which optimiser, with its history, trains in this phase. A phase with another id than the one
            before begins with a new optimiser; phases that share an id share its history. Checkpoints hold it.
        optimizer: its settings, None = the recipe's.
        schedule: schedule of the learning rate, None = the recipe's.
        lr_scale: factor on the learning rate.
    """

    optimizer_id: str = "main"
    optimizer: OptimizerConfig | None = None
    schedule: ScheduleConfig | None = None
    lr_scale: float = 1.0
