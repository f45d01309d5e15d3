"""What the learners of masks have in common: scores, from which come soft gates in training and kept groups after it.

Scores are few, so that everything is computed in float64: costs of soft masks are compared with budgets, and a sum of
probabilities that rounding moves across a budget would change the number of groups.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from slimasr.methods.phases import ParameterGroup
from slimasr.supernet.groups import Rounding

Side = Literal["both", "output"]
"""The weights that a gate multiplies: all of its group, or those at the output of the module only."""

TrueCosts = Sequence[Callable[[Iterable[int]], float]]
"""For each budget, a function from the indices of kept groups to what their subnet costs."""

# Costs are compared up to this relative error, so that a sum of equal costs does not depend on how it is rounded.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class GroupCosts:
    """Additive costs of groups, and the budgets, all in the unit of the criterion.

    Attributes:
        rest: cost of what belongs to no group.
        groups: (N,) cost of every group, which together with ``rest`` is that of the whole.
        limits: (M,) budgets.
    """

    rest: float
    groups: tuple[float, ...]
    limits: tuple[float, ...]

    @property
    def whole(self) -> float:
        """Cost of the whole model."""
        return self.rest + sum(self.groups)


@dataclass(frozen=True)
class Place:
    """The position in step 1, in planned optimiser steps.

    Attributes:
        step: steps of step 1 done.
        steps: its length.
    """

    step: float
    steps: float

    @property
    def share(self) -> float:
        """Fraction of step 1 that is done, at most 1."""
        return min(1.0, self.step / max(1.0, self.steps))


class Learner(nn.Module, ABC):
    """Scores of N groups, and M budgets. It keeps nothing else that changes."""

    side: Side
    figure_names: ClassVar[tuple[str, ...]] = ("k", "undecided")
    """Names of the figures of `budget_statistics`."""

    costs: Tensor
    limits: Tensor

    def __init__(self, costs: GroupCosts) -> None:
        super().__init__()
        self.given = costs
        # Follow from the model and the recipe, so that a checkpoint need not hold them.
        self.register_buffer("costs", torch.tensor(costs.groups, dtype=torch.float64), persistent=False)
        self.register_buffer("limits", torch.tensor(costs.limits, dtype=torch.float64), persistent=False)

    @abstractmethod
    def gates(self, budget: int, place: Place, noise: torch.Generator | None = None) -> Tensor:
        """Return the (N,) soft gates of a budget, float32, differentiable by the scores.

        Args:
            budget: number of the budget.
            place: the position in step 1.
            noise: generator of random gates, on the CPU; None = no randomness, as in validation.
        """

    @abstractmethod
    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the scores, and how the optimiser treats them."""

    @abstractmethod
    def rounded(self, place: Place, costs: TrueCosts) -> list[Rounding]:
        """Return the groups that every budget would keep if step 1 ended now; the subnets are nested.

        Raises:
            UserError: a score is not finite.
        """

    def penalties(self, budget: int, place: Place) -> dict[str, Tensor]:
        """Return scalars by name that a step minimises besides its losses, 0-dimensional; default none.

        Args:
            budget: number of the budget that the step trains.
            place: the position in step 1.
        """
        return {}

    @abstractmethod
    def number(self, budget: int, place: Place) -> float:
        """Return k: the number of rows or groups that the soft mask of a budget adds up."""

    def statistics(self, place: Place) -> dict[str, float]:
        """Return figures about all budgets together, for the logs; default none."""
        return {}

    def budget_statistics(self, budget: int, place: Place) -> dict[str, float]:
        """Return figures about one budget, for the logs: k, and the number of gates that are neither 0 nor 1."""
        gates = self.gates(budget, place).detach()
        undecided = ((gates > 0.1) & (gates < 0.9)).sum()
        return {"k": self.number(budget, place), "undecided": float(undecided)}

    def highest(self, scores: Tensor, limit: Tensor | float) -> Tensor:
        """Return an (N,) mask of the groups of the highest scores whose costs together stay below a limit.

        It has at least one group. Groups of equal score are taken in their order.
        """
        order = scores.detach().argsort(descending=True, stable=True)
        mask = at_least_one(below(self.given.rest + self.costs[order].cumsum(0), limit))
        return torch.zeros_like(mask).scatter(0, order, mask)

    def finite(self) -> bool:
        """Whether all scores are finite numbers."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.parameters())


def below(costs: Tensor, limit: Tensor | float) -> Tensor:
    """Whether costs are below a limit, up to rounding errors: a cost that equals it is not."""
    return costs < limit * (1.0 - TOLERANCE)


def at_least_one(mask: Tensor) -> Tensor:
    """Return the mask with its first entry set."""
    return torch.cat([torch.ones_like(mask[:1]), mask[1:]])
