"""Mask learning: the training chooses the subnets, as groups of parameters that meet budgets (paper 4).

J. Xu, E. Beck, Z. Yang, R. Schlueter, "Efficient supernet training with orthogonal softmax for scalable ASR model
compression" (2024), sections 3 and 4.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from slimasr.config.learners import budget_value
from slimasr.config.method import MaskLearningConfig
from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.errors import UserError
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.methods.learners import GroupCosts, Learner, Place, TrueCosts, build_learner
from slimasr.methods.phases import ParameterGroup
from slimasr.models.base import SpeechModel
from slimasr.objective.objective import Objective, loss_weights
from slimasr.objective.passes import PassOutput
from slimasr.supernet.groups import Budget, Group, Rounding, group_costs, kept_cost, resolved_budgets, subnet_of
from slimasr.supernet.list_space import MAX_NAME, LearntSubnet
from slimasr.supernet.space import SearchSpace
from slimasr.supernet.subnet import Subnet


@dataclass(frozen=True)
class Division:
    """The encoder as groups of parameters, what these cost, and the budgets.

    Attributes:
        groups: N groups in running order.
        costs: their costs, and the budgets, which fall.
        names: M names of the budgets, which are those of the subnets.
    """

    groups: tuple[Group, ...]
    costs: GroupCosts
    names: tuple[str, ...]

    @classmethod
    def of(cls, config: MaskLearningConfig, model: SpeechModel) -> Division:
        """Divide the encoder of a model.

        Raises:
            UserError: the encoder cannot be divided, or a budget does not fit the model.
        """
        try:
            groups = model.encoder.groups(config.granularity)
        except ValueError as error:
            raise UserError(f"method.granularity: {error}") from None
        criterion, seconds = config.criterion, config.cost_seconds
        budgets = [Budget.parse(budget_value(name)) for name in config.budgets]
        limits = resolved_budgets(budgets, model, groups, criterion, seconds)
        rest, costs = group_costs(model, groups, criterion, seconds)
        order = sorted(range(len(limits)), key=lambda number: -limits[number])
        given = GroupCosts(rest, tuple(costs), tuple(limits[number] for number in order))
        return cls(tuple(groups), given, tuple(config.budgets[number] for number in order))


class MaskLearning(Method):
    """Learns masks in step 1, and trains the subnets that they become in step 2.

    A pass of step 1 runs the whole encoder with the parameters of its groups multiplied by soft gates. At the switch,
    which is the first successful step at or after ``step1_share`` of the run, gates become index sets. A transducer's
    predictor runs once for all passes.
    """

    switched: Tensor
    kept: Tensor
    true_costs: Tensor
    final_figures: Tensor

    def __init__(
        self,
        space: SearchSpace,
        losses: Mapping[str, float],
        config: MaskLearningConfig,
        division: Division,
        learner: Learner,
    ) -> None:
        """Create the method.

        Args:
            losses: names and weights of the losses, the main one first.
            division: groups and budgets.
            learner: learns which groups the budgets keep.
        """
        super().__init__(space, losses, share_predictor=True)
        self.config = config
        self.division = division
        self.learner = learner
        shape = (len(division.names), len(division.groups))
        self.register_buffer("switched", torch.tensor(False))
        # (M, N): the groups that every budget keeps, after the switch.
        self.register_buffer("kept", torch.zeros(shape, dtype=torch.bool))
        # (M,): what they cost in the unit of the criterion, as counted.
        self.register_buffer("true_costs", torch.zeros(shape[0], dtype=torch.float64))
        # (M, F): figures about the masks at the switch, for the logs.
        self.register_buffer("final_figures", torch.zeros(shape[0], len(self._figure_names)))

    @classmethod
    def for_model(cls, config: Config, space: SearchSpace, model: SpeechModel) -> MaskLearning:
        assert isinstance(config.method, MaskLearningConfig)
        division = Division.of(config.method, model)
        learner = build_learner(division.costs, config.method.learner)
        return cls(space, loss_weights(config), config.method, division, learner)

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        if self.switched:
            return self._plan_subnets(context)
        if not self.learner.finite():
            raise UserError("the scores of method.learner are not finite; lower method.learner.score_lr_scale")
        number = self._drawn_budget(context)
        return [Pass(self.space.max, self.losses), self._masked(number, self.losses)]

    def _plan_subnets(self, context: StepContext) -> list[Pass]:
        """Plan a step of step 2: the whole encoder, the smallest subnet, and one of the others."""
        rng = step_random(context)
        subnets = self.subnets()
        numbers = [len(subnets) - 1]
        if len(subnets) > 1:
            numbers.append(rng.randrange(len(subnets) - 1))
        whole = Pass(self._with_layer_dropout(rng), self.losses, role=self.space.max.id)
        return [whole, *(Pass(subnets[i], self.losses, role=self.division.names[i]) for i in numbers)]

    def _with_layer_dropout(self, rng: random.Random) -> Subnet:
        """Return the max subnet without some of the modules of which the smallest subnet keeps nothing."""
        smallest = subnet_of(self._kept_groups(-1), self.division.groups)
        emptied = [key for key, units in smallest.units if units in (0, ())]
        left_out = [(key, 0) for key in emptied if rng.random() < self.config.layer_dropout]
        return Subnet(units=tuple(left_out))

    def _masked(self, number: int, losses: Mapping[str, float]) -> Pass:
        """Return the pass of a budget's soft mask, which `substitutes` recognises by its role."""
        return Pass(Subnet(head=self._head(number)), losses, role=self.division.names[number])

    def _head(self, number: int) -> str | None:
        return self.division.names[number] if self.config.separate_output_layers else None

    def _drawn_budget(self, context: StepContext) -> int:
        """Return the number of the budget that a step of step 1 trains."""
        return step_random(context).randrange(len(self.division.names))

    def evaluated(self) -> list[Pass]:
        names = self.division.names
        if self.switched:
            passes = [Pass(subnet, {}, role=name) for subnet, name in zip(self.subnets(), names, strict=True)]
        else:
            passes = [self._masked(number, {}) for number in range(len(names))]
        return [Pass(self.space.max, {}), *passes]

    def calibrated(self) -> list[Subnet]:
        return [self.space.max, *(self.subnets() if self.switched else ())]

    def subnets(self) -> list[Subnet]:
        """Return the subnets of the budgets, the largest first; known after the switch."""
        groups = self.division.groups
        return [subnet_of(self._kept_groups(i), groups, self._head(i)) for i in range(len(self.division.names))]

    def _kept_groups(self, number: int) -> list[Group]:
        return [group for group, kept in zip(self.division.groups, self.kept[number].tolist(), strict=True) if kept]

    def learnt(self) -> tuple[LearntSubnet, ...]:
        if not self.switched:
            return ()
        limits = self.division.costs.limits
        costs = self.true_costs.tolist()
        largest = max(self.division.costs.groups)
        found = [LearntSubnet(MAX_NAME, self.space.max)]
        for i, (name, subnet) in enumerate(zip(self.division.names, self.subnets(), strict=True)):
            found.append(LearntSubnet(name, subnet, limits[i], costs[i], tuple(self._kept_groups(i)), largest))
        return tuple(found)

    def substitutes(self, objective: Objective, item: Pass, batch: Batch, context: StepContext) -> dict[str, Tensor]:
        if self.switched or item.role not in self.division.names:
            return {}
        noise = None if context.validating else step_noise(context)
        gates = self.learner.gates(self.division.names.index(item.role), self._place(context), noise)
        changed = objective.model.encoder.reweight(gates, self.division.groups, self.learner.side)
        return {f"model.encoder.{name}": tensor for name, tensor in changed.items()}

    def total(self, output: PassOutput, item: Pass, context: StepContext) -> Tensor:
        """Return the loss, and that of a subnet times its scale (paper 4, equation 3)."""
        total = output.total(item.losses)
        if item.role not in self.division.names:
            return total
        return self._scale(output) * total

    def figures(self, output: PassOutput, item: Pass, context: StepContext) -> dict[str, Tensor]:
        return {"lambda": self._scale(output)} if item.role in self.division.names else {}

    def _scale(self, output: PassOutput) -> Tensor:
        """Return lambda of a pass over one process's batch, 0-dimensional: 1 - exp(-loss per frame), or a number."""
        # The first loss is the main one, of which a posterior is the exponential.
        main = output.losses[next(iter(self.losses))]
        if self.config.subnet_scale != "focal":
            return torch.full_like(main[0], self.config.subnet_scale)
        assert output.encoder is not None, "an objective's output carries the encoder's"
        frames = output.encoder.lens.sum().clamp(min=1).to(main.device, non_blocking=True)
        scale = focal_scale(main.sum() / frames, self.config.focal_exponent)
        return scale if self.config.focal_gradient else scale.detach()

    def penalties(self, objective: Objective, context: StepContext) -> dict[str, Tensor]:
        if self.switched:
            return {}
        return self.learner.penalties(self._drawn_budget(context), self._place(context))

    def parameter_groups(self) -> list[ParameterGroup]:
        # Also after the switch, when scores have no gradient any more: a group less would be another optimiser.
        return self.learner.parameter_groups()

    def after_step(self, objective: Objective, context: StepContext) -> dict[str, Tensor]:
        """Switch to step 2 at the first successful step at or after its time."""
        # The step has been done, and the scores are those behind it.
        place = replace(self._place(context), step=context.planned + context.stride)
        # Positions are sums of strides, which are not exact after a change of processes or data.
        if self.switched or place.step < place.steps - 1e-6:
            return {}
        costs = self._costs(objective)
        for number, rounding in enumerate(self.learner.rounded(place, costs)):
            self.kept[number, list(rounding.kept)] = True
            self.true_costs[number] = costs[number](rounding.kept)
            figures = self._mask_figures(number, rounding, place)
            self.final_figures[number] = torch.tensor([figures[name] for name in self._figure_names])
        self.switched.fill_(True)
        return {}

    def _costs(self, objective: Objective) -> TrueCosts:
        """Return the functions that count what kept groups cost, one for each budget."""
        config = self.config
        model, groups = objective.model, self.division.groups
        numbers = range(len(self.division.names))
        return [kept_cost(model, groups, config.criterion, config.cost_seconds, self._head(i)) for i in numbers]

    @property
    def _figure_names(self) -> tuple[str, ...]:
        return (*self.learner.figure_names, "duplicates")

    def _mask_figures(self, number: int, rounding: Rounding, place: Place) -> dict[str, float]:
        """Return figures about the mask of a budget."""
        return {**self.learner.budget_statistics(number, place), "duplicates": float(rounding.duplicates)}

    def statistics(self, objective: Objective, context: StepContext) -> dict[str, float]:
        """Return figures about masks: those of the learner now, and after the switch those of the switch.

        Costs are shares of the whole; before the switch, they are those of the subnets that would be chosen now.
        """
        division = self.division
        whole = division.costs.whole
        if self.switched:
            found = {f"{name}/cost": self.true_costs[i].item() / whole for i, name in enumerate(division.names)}
            for name, figures in zip(division.names, self.final_figures.tolist(), strict=True):
                found |= {f"{name}/{key}": value for key, value in zip(self._figure_names, figures, strict=True)}
            return found
        place = self._place(context)
        found = self.learner.statistics(place)
        costs = self._costs(objective)
        for number, rounding in enumerate(self.learner.rounded(place, costs)):
            own = self._mask_figures(number, rounding, place)
            own["cost"] = costs[number](rounding.kept) / whole
            found |= {f"{division.names[number]}/{key}": value for key, value in own.items()}
        return found

    def _place(self, context: StepContext) -> Place:
        return Place(context.planned, self.config.step1_share * context.total_steps)


def focal_scale(loss: Tensor, exponent: float) -> Tensor:
    """Return (1 - exp(-loss)) ** exponent of a loss per frame, 0-dimensional (paper 4, equation 3)."""
    # Exact for small losses, of which 1 - exp would cancel. No posterior exceeds 1.
    return (-torch.expm1(-loss.clamp(min=0.0))) ** exponent


def step_random(context: StepContext) -> random.Random:
    """Return a generator that draws the same numbers for every batch and on every process of a step."""
    return copy.deepcopy(context.rng)


def step_noise(context: StepContext) -> torch.Generator:
    """Return a generator of tensors, on the CPU, that is likewise equal for all batches and processes of a step."""
    generator = torch.Generator()
    # 63 bits are what a generator takes as its seed.
    generator.manual_seed(step_random(context).getrandbits(63))
    return generator
