"""The Method protocol: a training method makes a plan for each step, and may hook into the trainer at fixed points.

The trainer knows no method by name, and a method never sees the trainer. A new paper is one more module in this package
that overrides what it needs.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.methods.figures import StepReport, loss_figures
from slimasr.methods.forks import ForkedEncoder, Route
from slimasr.methods.phases import ParameterGroup, Phase
from slimasr.methods.sharing import Backward, SharedKnown, SharedPredictor
from slimasr.models.base import SpeechModel
from slimasr.objective.objective import Objective, loss_weights
from slimasr.objective.passes import PassInputs, PassOutput
from slimasr.supernet.list_space import LearntSubnet
from slimasr.supernet.space import SearchSpace
from slimasr.supernet.subnet import Subnet, refuse_pathway

PREDICTOR = "model.predictor."
"""How the names of the predictor's parameters begin in an objective."""


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass of a step.

    Attributes:
        subnet: the subnet that runs.
        losses: loss name (`Objective` lists them) -> weight.
        rows: indices of the batch's utterances, None = all.
        teacher: index of an earlier pass of the plan whose detached output this one learns from.
        taps: encoder layers whose hidden states the losses need.
        role: the name under which its losses are logged, None = the subnet's id.
        language: the only language whose utterances it is meant for; "" = all.
    """

    subnet: Subnet
    losses: Mapping[str, float]
    rows: tuple[int, ...] | None = None
    teacher: int | None = None
    taps: tuple[int, ...] = ()
    role: str | None = None
    language: str = ""

    @property
    def name(self) -> str:
        """Name of the pass in logs."""
        return self.subnet.id if self.role is None else self.role


def ignored(path: str, content: Mapping[str, Any]) -> None:
    """Keep nothing: stands in for `StepContext.keep` where there is no experiment folder."""


@dataclass(frozen=True)
class StepContext:
    """The position of the run.

    Attributes:
        step: optimiser steps done. Seeds follow from it; schedules use `planned` or `progress` instead.
        epoch: the running epoch, counted from 1.
        total_steps: optimiser steps of the whole run, as planned when it began.
        rng: seeded by run seed and step: equal on all ranks and after a resume.
        position: planned steps done (`slimasr.training.plan`), None = ``step``, as in a run that goes as planned.
        stride: planned steps that this step advances.
        validating: whether losses are those of the end of the run, so that epochs can be compared.
        key: what all utterances of the step share (`Method.batch_key`); None = nothing, or there is no step.
        keep: writes tensors and plain values into a file of the experiment folder, which is named by its path there.
            The same step after a restart replaces the file.
        initial: reads the weights of ``training.init`` again, on the CPU, by their names in the model, without masks;
            it raises `UserError` if they are gone or have changed. None = training began with random weights.
    """

    step: int
    epoch: int
    total_steps: int
    rng: random.Random
    position: float | None = None
    stride: float = 1.0
    validating: bool = False
    key: str | None = None
    keep: Callable[[str, Mapping[str, Any]], None] = ignored
    initial: Callable[[], Mapping[str, Tensor]] | None = None

    @property
    def planned(self) -> float:
        """Planned optimiser steps done, in [0, ``total_steps``)."""
        return self.step if self.position is None else self.position

    @property
    def progress(self) -> float:
        """Fraction of all planned optimiser steps already done, in [0, 1)."""
        return self.planned / max(1, self.total_steps)

    @property
    def loss_progress(self) -> float:
        """The progress on which the weights of losses depend, in [0, 1]."""
        return 1.0 if self.validating else self.progress


class Method(nn.Module, ABC):
    """How subnets are trained. Its parameters and buffers travel in the checkpoint, as any module's.

    It keeps no other state that changes: a skipped step, and the trial of the largest batches, undo changes of buffers
    alone.
    """

    def __init__(
        self,
        space: SearchSpace,
        losses: Mapping[str, float],
        share_predictor: bool = False,
        share_encoder: bool = False,
        share_kernels: bool = False,
    ) -> None:
        """Create a method on a search space.

        Args:
            losses: loss names and weights of the recipe, as `objective.loss_weights` returns them.
            share_predictor: run the predictor once per step for all passes, with one dropout mask for all (paper
                1). Without effect for models that have no predictor, which have no transducer loss. Not for methods
                with `substitutes` in the predictor.
            share_encoder: run layers that several passes have in common once per step. The subnets have the same
                width and no units. Not for methods with `substitutes` in the encoder.
            share_kernels: compute once per step what encoder layers compute from their weights alone, such as the
                kernels of state-space layers. Of use if passes have a width in common. Not for methods with
                `substitutes` in the encoder.
        """
        super().__init__()
        self.space = space
        self.losses = dict(losses)
        self.share_predictor = share_predictor and "transducer" in losses
        self.share_encoder = share_encoder
        self.share_kernels = share_kernels

    @classmethod
    def from_config(cls, config: Config, space: SearchSpace) -> Method:
        """Build the method from a recipe; override it when the method has settings.

        Raises:
            UserError: a setting does not fit the search space.
        """
        return cls(space, loss_weights(config))

    @classmethod
    def for_model(cls, config: Config, space: SearchSpace, model: SpeechModel) -> Method:
        """Build the method for a model; override it when the method depends on the model's layers.

        Raises:
            UserError: a setting fits neither the search space nor the model.
        """
        return cls.from_config(config, space)

    @classmethod
    def resolve(cls, config: Config) -> tuple[Config, str | None]:
        """Return the configuration that is trained, and the id of the subnet whose stand-alone model it describes.

        Default: the recipe's own configuration, which describes a supernet (None).

        Raises:
            UserError: a setting does not fit the search space.
        """
        return config, None

    @abstractmethod
    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        """Return the passes of this step, in running order; a teacher comes before its students."""

    def evaluated(self) -> list[Pass]:
        """Return the passes validated each epoch; default: the whole space, too many for most spaces of layers.

        Validation computes the losses of the recipe, whatever losses a pass has, and gives its curves the pass's name.
        """
        return [Pass(subnet, {}) for subnet in self.space]

    def learnt(self) -> tuple[LearntSubnet, ...] | None:
        """Return the subnets that the training has chosen, max first, the largest next.

        An empty tuple = it has not chosen them yet; None = this method learns none, and the space holds all subnets.
        They follow from parameters and buffers, so that they are known again after a restart.
        """
        return None

    def calibrated(self) -> list[Subnet]:
        """Return the subnets over which batch norms are estimated at the end; those of one width share statistics.

        Norms that none of these subnets runs are estimated over the largest subnet of each width.
        """
        return [item.subnet for item in self.evaluated()]

    def normalizer(self, objective: Objective, batch: Batch) -> float:
        """Return the weight of this batch among all batches of the step; default: that of ``loss.per``.

        The step's loss is the weighted mean of its batches' losses; see `Objective.weight_of`.
        """
        return objective.weight_of(batch)

    def total(self, output: PassOutput, item: Pass, context: StepContext) -> Tensor:
        """Return what a pass minimises, a scalar; default: the weighted sum of its losses' means per unit."""
        return output.total(item.losses)

    def figures(self, output: PassOutput, item: Pass, context: StepContext) -> dict[str, Tensor]:
        """Return scalars of a training pass, 0-dimensional, that are logged beside its losses; default none."""
        return {}

    def penalties(self, objective: Objective, context: StepContext) -> dict[str, Tensor]:
        """Return scalars by name, 0-dimensional, that a step minimises besides the totals of its passes; default none.

        They count once in a step, however many batches and processes it has. They are computed outside of autocast, and
        must not draw random numbers other than from a copy of ``context.rng``.
        """
        return {}

    def statistics(self, objective: Objective, context: StepContext) -> dict[str, float]:
        """Return figures that describe the state of the method at the end of an epoch, for the logs; default none."""
        return {}

    def substitutes(self, objective: Objective, item: Pass, batch: Batch, context: StepContext) -> dict[str, Tensor]:
        """Return tensors that replace parameters of the objective in this pass (``functional_call``); default none."""
        return {}

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the method's own trainable parameters; default none."""
        return []

    def inputs(self) -> dict[str, str]:
        """Return name -> digest of what the method has read of other experiments; a run that resumes needs the same."""
        return {}

    def batch_key(self) -> str | None:
        """Return the supervision field (``language``, ``speaker``) that a batch's cuts must share; None = mixed."""
        return None

    def phase(self, epoch: int) -> Phase:
        """Return how an epoch (counted from 1) is optimised."""
        return Phase()

    def after_backward(self, objective: Objective, context: StepContext) -> None:
        """Run after all gradients of the step are summed and reduced, before clipping; default: nothing."""

    def update_masks(self, objective: Objective, context: StepContext) -> dict[str, Tensor]:
        """Return parameter name -> bool mask of the weights that this step may change; other tensors change whole.

        Weights outside a mask keep their value and optimiser state bit for bit: neither momentum nor decay moves them.
        """
        return {}

    def after_step(self, objective: Objective, context: StepContext) -> Mapping[str, Tensor]:
        """Run after the optimiser step, for pruning, rewinding or freezing; default: nothing.

        Returns:
            Parameter name -> bool mask of the entries whose optimiser state is reset to zero.
        """
        return {}

    def settled(self) -> bool:
        """Whether the weights are by now those of the subnets that the run is for, so that they may be the best ones.

        Default: always, or as soon as the training has chosen its subnets.
        """
        return self.learnt() != ()

    def averages(self, context: StepContext) -> bool:
        """Return whether the weights after a step may enter the average of the final model; default: once `settled`.

        Args:
            context: the position behind the step.
        """
        return self.settled()

    def finish(self, objective: Objective, context: StepContext) -> None:
        """Change the final weights, after averaging and before statistics and validation; default: nothing."""

    def facts(self, objective: Objective) -> Mapping[str, Any]:
        """Return plain facts about the finished run for results.json, by their keys there; default none."""
        return {}

    def run(
        self,
        objective: Objective,
        batch: Batch,
        context: StepContext,
        normalizer: float,
        backward: Backward,
    ) -> StepReport:
        """Run the step's passes, each one forward and one backward, so that memory holds one graph at a time.

        A shared predictor (`share_predictor`) runs once: forward before all passes, and backward after them. So do the
        layers of a shared encoder (`share_encoder`) that several passes have in common; `ForkedEncoder` says when.
        Shared kernels (`share_kernels`) are computed in the first pass that needs them. Override this method when
        passes share other computation.

        Args:
            objective: model and losses.
            batch: this process's batch, on its device.
            context: the position of the run.
            normalizer: sum of `normalizer` over all processes and accumulated batches.
            backward: accumulates the gradient of a loss, scaled for mixed precision, or of shared tensors.
        """
        plan = self.plan(batch, context)
        encoder = self._shared_encoder(objective, batch, plan) if self.share_encoder else None
        predictor = SharedPredictor(objective, batch) if self.share_predictor else None
        restriction = objective.restriction(batch)
        known = SharedKnown() if self.share_kernels else None
        # The losses of a pass are means over its batch; the fraction makes them summands of the mean over all batches.
        fraction = self.normalizer(objective, batch) / normalizer
        teachers = {item.teacher for item in plan}
        report = StepReport(unrestricted=0 if restriction is None else len(restriction.unrestricted))
        outputs: list[PassOutput] = []
        for number, item in enumerate(plan):
            part = batch if item.rows is None else batch.select(item.rows)
            teacher = None
            if item.teacher is not None:
                teacher = teacher_output(outputs[item.teacher], plan[item.teacher], item)
            inputs = PassInputs(
                teacher=teacher,
                teaches=number in teachers,
                encoder=None if encoder is None else encoder.output_of(number, item.rows),
                predictor_out=None if predictor is None else predictor.output_of(item.rows, part),
                # A pass over a part of the batch opens the windows of this part.
                restriction=restriction if item.rows is None else None,
                known=known,
            )
            output = self.forward_pass(objective, item, part, context, inputs)
            # The backward pass comes at once: the next pass begins without the graph of this one.
            scalars = self.figures(output, item, context)
            report.waiting.append(loss_figures(item.name, output, item.losses, part, scalars))
            backward(self.total(output, item, context) * fraction)
            if encoder is not None:
                encoder.finish(number, backward)
            # A finished pass that teaches nobody frees its graph.
            outputs.append(output.detach() if number in teachers else PassOutput())
        # The passes have gathered their gradients in the leaves of what they share, and it goes on from there.
        for shared in (predictor, known):
            if shared is not None:
                shared.backward(backward)
        return report.read()

    def forward_pass(
        self,
        objective: Objective,
        item: Pass,
        part: Batch,
        context: StepContext,
        inputs: PassInputs | None = None,
        stand_ins: dict[str, Tensor] | None = None,
    ) -> PassOutput:
        """Compute the losses of one pass on its ``part`` of the batch, with `substitutes` if the method has any.

        Args:
            objective: model and losses.
            item: the pass.
            part: the utterances of the pass.
            context: the position of the run.
            inputs: inputs of the pass, None = nothing; its taps are replaced by those of ``item``.
            stand_ins: what `substitutes` returned for this pass, None = it is asked.
        """
        inputs = replace(inputs or PassInputs(), taps=item.taps)
        args = (part, item.subnet, tuple(item.losses), context.loss_progress, inputs)
        if stand_ins is None:
            stand_ins = self.substitutes(objective, item, part, context)
        if not stand_ins:
            return objective(*args)
        # What passes share was computed with the parameters themselves.
        shared = inputs.predictor_out is not None and any(name.startswith(PREDICTOR) for name in stand_ins)
        assert not shared, "a shared predictor runs without the substitutes of a pass"
        return torch.func.functional_call(objective, stand_ins, args)

    def _shared_encoder(self, objective: Objective, batch: Batch, plan: Sequence[Pass]) -> ForkedEncoder:
        """Prepare the encoder for all passes, cut where any of them reads hidden states."""
        routes = []
        for item in plan:
            refuse_pathway(item.subnet)
            alike = item.subnet.width == plan[0].subnet.width and not item.subnet.units
            assert alike, f"{item.subnet.id} cannot share an encoder: it has another width, or units of its own"
            taps = {*item.taps, *objective.taps_of(item.subnet, tuple(item.losses))}
            routes.append(Route(objective.model.encoder.path_of(item.subnet), frozenset(taps)))
        return ForkedEncoder(objective.model, batch, Subnet(plan[0].subnet.width), routes)


def teacher_output(output: PassOutput, teacher: Pass, student: Pass) -> PassOutput:
    """Select the part of a teacher's output that belongs to the utterances of its student."""
    if student.rows == teacher.rows:
        return output
    # Rows are indices into the batch; a teacher that ran on some rows holds its output in the order of these.
    assert student.rows is not None, "a student's utterances are some of its teacher's"
    rows = student.rows if teacher.rows is None else [teacher.rows.index(row) for row in student.rows]
    return output.select(rows)
