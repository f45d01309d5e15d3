"""Training methods: how the subnets of a space are trained, and which recipes a method refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from slimasr.config.learners import BudgetName, InnerFraction, LearnerConfig, OrthoSoftmaxConfig, SubnetScale
from slimasr.config.method_section import MethodSection
from slimasr.config.pathways import PathwaysConfig
from slimasr.config.section import (
    LARGEST_INT,
    Bounds,
    Natural,
    NonNegativeFloat,
    PositiveFloat,
    PositiveFraction,
    Rate,
    Section,
    SubnetText,
    is_distinct,
)
from slimasr.config.training import OptimizerConfig, ScheduleConfig

if TYPE_CHECKING:
    from slimasr.config.schema import Config

LaterEpoch = Annotated[int, Bounds(2, LARGEST_INT)]


class SlimmableConfig(MethodSection):
    """Every step sums the losses of all subnets of the space (paper 1)."""

    kind: Literal["slimmable"] = "slimmable"
    """Selects slimmable training."""

    share_predictor: bool | None = None
    """Whether the predictor of a transducer runs once per batch, with one dropout mask for all subnets; null = yes."""


class SeparateConfig(MethodSection):
    """One subnet of the space, built as a stand-alone model and trained alone: the baseline."""

    # YAML reads a bare width as a number, which is as good as a string.
    model_config = ConfigDict(coerce_numbers_to_str=True)

    kind: Literal["separate"] = "separate"
    """Selects the training of one subnet alone."""

    subnet: SubnetText = "1.0"
    """The subnet to train: a width, an id such as w0.5, max, min, or JSON."""


class PhaseConfig(Section):
    """What changes at the beginning of an epoch."""

    epoch: LaterEpoch
    """First epoch of the phase, counted from 1; at most ``training.num_epochs``."""

    optimizer: OptimizerConfig | None = None
    """New optimiser, which starts without history and needs its ``kind``; null = the optimiser stays."""

    schedule: ScheduleConfig | None = None
    """New schedule, which counts from the beginning of the run and needs its ``kind``; null = the schedule stays."""

    kd_weight: NonNegativeFloat | None = None
    """New ``loss.distillation.kd_weight``; 0 = no teacher, null = the weight stays."""


class TodmConfig(MethodSection):
    """Train once, deploy many (paper 2): every step trains the max subnet on the whole batch, and the min subnet and
    random ones on disjoint parts of it."""

    teaches: ClassVar[bool] = True

    kind: Literal["todm"] = "todm"
    """Selects TODM."""

    num_random: Natural = 2
    """Number of random subnets in a step in addition to max and min; 0 = none."""

    share: PositiveFraction = 0.25
    """Fraction of a batch's utterances on which each smaller subnet is trained, at least one utterance; 1 = all."""

    share_predictor: bool | None = None
    """Whether the predictor of a transducer runs once per batch, with one dropout mask for all subnets; null = yes."""

    phases: list[PhaseConfig] = []
    """Later phases of the training, their epochs rising; [] = the whole run is one phase."""

    validated: list[SubnetText] = ["max", "min"]
    """Subnets to validate, as max, min, a width, an id or JSON, at least one, all different; best.pt has their lowest
    mean WER."""

    @model_validator(mode="after")
    def _in_order(self) -> TodmConfig:
        epochs = [phase.epoch for phase in self.phases]
        # The set also refuses two phases of the same epoch.
        if epochs != sorted(set(epochs)):
            raise ValueError("phases: their epochs must rise")
        if not self.validated or not is_distinct(self.validated):
            raise ValueError("validated: needs at least one subnet, all different")
        return self

    def check(self, config: Config) -> None:
        super().check(config)
        num_epochs = config.training.epochs
        for phase in self.phases:
            if phase.epoch > num_epochs:
                steps = config.training.num_steps
                last = f"training.num_epochs is {num_epochs}"
                if steps is not None:
                    last = f"training.num_steps {steps} make {num_epochs} epochs"
                raise ValueError(f"method.phases: {last}, so the phase of epoch {phase.epoch} would never begin")
            if phase.kd_weight is not None and config.loss.distillation is None:
                raise ValueError("method.phases: kd_weight without loss.distillation has no effect")


class MultiExitConfig(MethodSection):
    """The full depth and all ``model.exits`` in one encoder pass (paper 2, baseline A3; paper 4, Aux-Loss), for a space
    of depths that are all exits or the full depth."""

    kind: Literal["multi_exit"] = "multi_exit"
    """Selects the training of several exits."""

    exit_weight: PositiveFloat = 0.3
    """Weight of the losses at every exit; the losses at the full depth have weight 1."""

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


class CollaborativeConfig(MethodSection):
    """All branches of a tree on every batch (paper 3), the deepest of which teaches the others frame posteriors if
    ``loss.auxiliary`` says so."""

    teaches_frames: ClassVar[bool] = True

    kind: Literal["collaborative"] = "collaborative"
    """Selects collaborative training."""

    def check(self, config: Config) -> None:
        super().check(config)
        if config.space.kind != "branches":
            raise ValueError("space: method collaborative trains the branches of a tree; give kind: branches")


class MaskLearningConfig(MethodSection):
    """Subnets that the training chooses (paper 4). Step 1 trains the whole encoder and one budget's masked encoder at a
    time, together with the masks; step 2 trains the whole encoder and the chosen subnets."""

    kind: Literal["mask_learning"] = "mask_learning"
    """Selects mask learning."""

    budgets: list[BudgetName]
    """Limits below which the costs of the subnets stay, one subnet each: a share of the whole such as 0.63,
    ``{macs: 2.5e8}`` per second of audio, ``{params: 2e6}``, or the cost of the first layers with front end and output,
    ``{blocks: 4}``; all different."""

    granularity: Literal["component", "layer"] = "component"
    """Groups of parameters that are kept or left out: heads, convolution modules and parts of feed-forward modules,
    each as wide as the encoder, or whole modules."""

    criterion: Literal["macs", "params", "none"] = "macs"
    """Cost of a group: MACs per second of audio, parameters, or 1 for every group."""

    cost_seconds: PositiveFloat = 10.0
    """Length of the utterance in seconds on which MACs are counted; attention's share grows with it."""

    learner: LearnerConfig = OrthoSoftmaxConfig()
    """How the masks are learnt."""

    step1_share: InnerFraction = 0.6
    """Fraction of the run in which masks are learnt, at most ``training.average_start``."""

    subnet_scale: SubnetScale = "focal"
    """Factor on the loss of a masked encoder or a subnet: focal = 1 - exp(-loss per frame), to the power of
    ``focal_exponent``, or a number."""

    focal_exponent: PositiveFloat = 1.0
    """Exponent of the focal factor."""

    focal_gradient: bool = True
    """Whether the gradient also passes through the focal factor."""

    separate_output_layers: bool = True
    """Whether every subnet has an output layer of its own."""

    layer_dropout: Rate = 0.1
    """Probability with which the whole encoder's pass of step 2 leaves out a module of which the smallest subnet keeps
    nothing; 0 = never."""

    @property
    def heads(self) -> tuple[str, ...]:
        return tuple(self.budgets) if self.separate_output_layers else ()

    @property
    def switch_share(self) -> float | None:
        return self.step1_share

    @model_validator(mode="after")
    def _possible(self) -> MaskLearningConfig:
        if not self.budgets or not is_distinct(self.budgets):
            raise ValueError("budgets: needs at least one, all different")
        if self.learner.kind == "l0" and len(self.budgets) > 1:
            raise ValueError("budgets: learner.kind l0 learns one subnet; give one budget")
        return self


MethodConfig = Annotated[
    SlimmableConfig
    | TodmConfig
    | MultiExitConfig
    | CollaborativeConfig
    | MaskLearningConfig
    | PathwaysConfig
    | SeparateConfig,
    Field(discriminator="kind"),
]
