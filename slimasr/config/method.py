"""Training methods."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from slimasr.config.section import (
    LARGEST_INT,
    Bounds,
    Natural,
    NonNegativeFloat,
    NotEmpty,
    PositiveFloat,
    PositiveFraction,
    Section,
    is_distinct,
)
from slimasr.config.training import OptimizerConfig, ScheduleConfig


def _as_json(value: Any) -> Any:
    """YAML reads a subnet's JSON as a mapping."""
    return json.dumps(value) if isinstance(value, Mapping) else value


LaterEpoch = Annotated[int, Bounds(2, LARGEST_INT)]
SubnetText = Annotated[str, NotEmpty, BeforeValidator(_as_json)]


class SlimmableConfig(Section):
    """Every step sums the losses of all subnets of the space (paper 1).

    ``share_predictor`` runs the predictor once per step, with one dropout mask for all subnets.
    """

    kind: Literal["slimmable"] = "slimmable"
    share_predictor: bool = True


class SeparateConfig(Section):
    """One subnet of the space, built as a stand-alone model and trained alone: the baseline.

    ``subnet`` is a width, an id, ``max``, ``min`` or JSON; YAML reads a bare width as a number, which is as good.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)

    kind: Literal["separate"] = "separate"
    subnet: SubnetText = "1.0"


class PhaseConfig(Section):
    """What changes at the beginning of ``epoch`` (counted from 1); null = stays as it was.

    A new optimiser starts without history. A new schedule counts from the beginning of the run.
    """

    epoch: LaterEpoch
    optimizer: OptimizerConfig | None = None
    schedule: ScheduleConfig | None = None
    kd_weight: NonNegativeFloat | None = None


class TodmConfig(Section):
    """Train once, deploy many (paper 2): the max subnet on the whole batch, the min subnet and ``num_random`` others
    on disjoint parts of it, ``share`` of its utterances each.

    ``validated``: subnets validated after each epoch, as ``max``, ``min`` or JSON. ``share_predictor``: see
    slimmable.
    """

    kind: Literal["todm"] = "todm"
    num_random: Natural = 2
    share: PositiveFraction = 0.25
    share_predictor: bool = True
    phases: list[PhaseConfig] = []
    validated: list[SubnetText] = ["max", "min"]

    @model_validator(mode="after")
    def _in_order(self) -> TodmConfig:
        epochs = [phase.epoch for phase in self.phases]
        if epochs != sorted(set(epochs)):
            raise ValueError("phases: their epochs must rise")
        if not self.validated or not is_distinct(self.validated):
            raise ValueError("validated: needs at least one subnet, all different")
        return self


class MultiExitConfig(Section):
    """The full depth and all ``model.exits`` in one encoder pass; the losses of an exit weigh ``exit_weight`` times as
    much (paper 2, baseline A3). The space lists depths, all of them exits or the full one.
    """

    kind: Literal["multi_exit"] = "multi_exit"
    exit_weight: PositiveFloat = 0.3


MethodConfig = Annotated[SlimmableConfig | TodmConfig | MultiExitConfig | SeparateConfig, Field(discriminator="kind")]
