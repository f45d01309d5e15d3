"""L0 regularisation: random gates that are exactly 0 or 1 with some probability, and a constraint on what they cost.

C. Louizos, M. Welling, D. Kingma, "Learning sparse neural networks through L0 regularization" (2018); the constraint of
M. Xia, Z. Zhong, D. Chen, "Structured pruning learns compact and accurate models" (2022).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from slimasr.config.learners import L0Config
from slimasr.methods.learners.base import GroupCosts, Learner, Place, Side, TrueCosts
from slimasr.methods.phases import ParameterGroup
from slimasr.supernet.groups import Rounding, round_scores

# Temperature of the concrete distribution, and the interval to which it is stretched (Louizos et al. 2018)
TEMPERATURE = 2.0 / 3.0
LOW, HIGH = -0.1, 1.1
# Uniform noise stays this far from 0 and 1, so that its logarithm is finite.
MARGIN = 1e-6


class L0(Learner):
    """Scores log alpha (N,) of hard concrete gates, and two multipliers of the constraint, which ascend.

    It has one budget. Gates multiply outputs alone; `TopK` says why.
    """

    side: Side = "output"

    def __init__(self, costs: GroupCosts, config: L0Config) -> None:
        super().__init__(costs)
        assert len(costs.limits) == 1, "L0 learns one subnet"
        self.config = config
        self.scores = nn.Parameter(torch.full((len(costs.groups),), config.score_init))
        self.multipliers = nn.Parameter(torch.zeros(2))

    def parameter_groups(self) -> list[ParameterGroup]:
        config = self.config
        rate = config.multiplier_lr_scale
        return [
            ParameterGroup("scores", [self.scores], config.score_lr_scale, eps=config.score_eps),
            ParameterGroup("multipliers", [self.multipliers], rate, maximize=True, eps=config.score_eps),
        ]

    def gates(self, budget: int, place: Place, noise: torch.Generator | None = None) -> Tensor:
        """Return random gates; without noise, 1 for the groups of the highest scores that the budget pays for."""
        scores = self.scores.double()
        if noise is None:
            return self.highest(scores, self.limits[0]).float()
        uniform = torch.rand(len(scores), generator=noise, dtype=torch.float64).to(scores.device, non_blocking=True)
        uniform = MARGIN + (1.0 - 2.0 * MARGIN) * uniform
        concrete = torch.sigmoid((uniform.log() - (1.0 - uniform).log() + scores) / TEMPERATURE)
        return (concrete * (HIGH - LOW) + LOW).clamp(0.0, 1.0).float()

    def open_probability(self) -> Tensor:
        """Return the (N,) probabilities that a gate is not 0."""
        return torch.sigmoid(self.scores.double() - TEMPERATURE * math.log(-LOW / HIGH))

    def sparsity(self) -> Tensor:
        """Return the expected share of the groups' cost that is left out, 0-dimensional."""
        return 1.0 - (self.costs * self.open_probability()).sum() / self.costs.sum()

    def wanted_sparsity(self, place: Place) -> float:
        """Return the sparsity of the constraint, which rises linearly to that of the budget."""
        given = self.given
        final = 1.0 - (given.limits[0] - given.rest) / sum(given.groups)
        return final * min(1.0, place.share / self.config.warmup)

    def penalties(self, budget: int, place: Place) -> dict[str, Tensor]:
        """Return the Lagrangian terms of the constraint that the sparsity is the wanted one."""
        excess = self.sparsity() - self.wanted_sparsity(place)
        first, second = self.multipliers.double().unbind()
        return {"sparsity": first * excess + second * excess.square()}

    def number(self, budget: int, place: Place) -> float:
        return float(self.highest(self.scores, self.limits[0]).sum())

    def rounded(self, place: Place, costs: TrueCosts) -> list[Rounding]:
        return round_scores(self.scores.tolist(), self.given.limits, costs)

    def statistics(self, place: Place) -> dict[str, float]:
        first, second = self.multipliers.tolist()
        sparsities = {"sparsity": float(self.sparsity().detach()), "wanted_sparsity": self.wanted_sparsity(place)}
        return {**sparsities, "multiplier1": first, "multiplier2": second}

    def budget_statistics(self, budget: int, place: Place) -> dict[str, float]:
        """Return k, and the number of gates whose probability not to be 0 is neither below 0.1 nor above 0.9."""
        probability = self.open_probability().detach()
        undecided = ((probability > 0.1) & (probability < 0.9)).sum()
        return {"k": self.number(budget, place), "undecided": float(undecided)}
