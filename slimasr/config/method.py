"""Training methods."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

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

if TYPE_CHECKING:
    from slimasr.config.schema import Config


def _as_json(value: Any) -> Any:
    """YAML reads a subnet's JSON as a mapping."""
    return json.dumps(value) if isinstance(value, Mapping) else value


LaterEpoch = Annotated[int, Bounds(2, LARGEST_INT)]
SubnetText = Annotated[str, NotEmpty, BeforeValidator(_as_json)]


class MethodSection(Section):
    """What the sections of all methods have in common. A method's section also says which recipes it refuses."""

    teaches: ClassVar[bool] = False
    """Whether subnets learn from others of the same step, as ``loss.distillation`` says."""

    kind: str

    def check(self, config: Config) -> None:
        """Refuse settings that would silently have no effect."""
        if config.loss.distillation is not None and not self.teaches:
            raise ValueError(f"loss.distillation: method {self.kind} has no teacher; set it to null")


class SlimmableConfig(MethodSection):
    """Every step sums the losses of all subnets of the space (paper 1).

    ``share_predictor`` runs the predictor once per step, with one dropout mask for all subnets.
    """

    kind: Literal["slimmable"] = "slimmable"
    share_predictor: bool = True


class SeparateConfig(MethodSection):
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


class TodmConfig(MethodSection):
    """Train once, deploy many (paper 2): the max subnet on the whole batch, the min subnet and ``num_random`` others
    on disjoint parts of it, ``share`` of its utterances each.

    ``validated``: subnets validated after each epoch, as ``max``, ``min`` or JSON. ``share_predictor``: see
    slimmable.
    """

    teaches: ClassVar[bool] = True

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

    def check(self, config: Config) -> None:
        super().check(config)
        num_epochs = config.training.num_epochs
        for phase in self.phases:
            if phase.epoch > num_epochs:
                last = f"training.num_epochs is {num_epochs}"
                raise ValueError(f"method.phases: {last}, so the phase of epoch {phase.epoch} would never begin")
            if phase.kd_weight is not None and config.loss.distillation is None:
                raise ValueError("method.phases: kd_weight without loss.distillation has no effect")


class MultiExitConfig(MethodSection):
    """The full depth and all ``model.exits`` in one encoder pass; the losses of an exit weigh ``exit_weight`` times as
    much (paper 2, baseline A3). The space lists depths, all of them exits or the full one.
    """

    kind: Literal["multi_exit"] = "multi_exit"
    exit_weight: PositiveFloat = 0.3

    def check(self, config: Config) -> None:
        super().check(config)
        space = config.space
        model = config.model
        if not model.exits:
            raise ValueError("model.exits: method multi_exit needs at least one")
        if space.kind != "layers" or space.units or space.widths != [1.0]:
            raise ValueError("space: method multi_exit trains depths alone; give kind: layers and depths")
        if not set(space.depths) <= {*model.exits, model.encoder.num_layers}:
            raise ValueError("space.depths: method multi_exit trains only model.exits and the full depth")


MethodConfig = Annotated[SlimmableConfig | TodmConfig | MultiExitConfig | SeparateConfig, Field(discriminator="kind")]
