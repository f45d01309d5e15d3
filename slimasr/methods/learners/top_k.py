"""Simple-Top-k: one score per group, of which the highest are kept while the budget falls step by step.

J. Xu et al., "Dynamic encoder size based on data-driven layer-wise pruning for speech recognition" (2024), as paper 4
compares with it; costs and several budgets as in paper 4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from slimasr.config.learners import TopKConfig
from slimasr.methods.learners.base import GroupCosts, Learner, Place, Side, TrueCosts
from slimasr.methods.phases import ParameterGroup
from slimasr.supernet.groups import Rounding, round_scores

# Smallest factor of a group that has been drawn already, so that its logarithm stays finite.
SMALLEST = 1e-10


class TopK(Learner):
    """Scores s (N,), walked from the highest to the lowest while the budget lasts.

    Gates multiply outputs alone: with inputs multiplied as well, a group at gate 0 would have a gradient of exactly 0
    and could never come back.
    """

    side: Side = "output"

    def __init__(self, costs: GroupCosts, config: TopKConfig) -> None:
        super().__init__(costs)
        self.config = config
        self.scores = nn.Parameter(torch.full((len(costs.groups),), config.score_init))

    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup("scores", [self.scores], self.config.score_lr_scale, eps=self.config.score_eps)]

    def limit(self, budget: int, place: Place) -> float:
        """Return what the groups of a budget may cost now.

        It falls from infinity, which keeps the whole encoder, by equal steps from the cost of the whole to the smallest
        budget; a larger budget stops at its own limit.
        """
        stages = self.config.stages
        # One more stretch than steps: the first keeps the whole encoder, the last has the final limit.
        stage = min(stages, int(place.share * (stages + 1)))
        if stage == 0:
            return math.inf
        whole, smallest = self.given.whole, min(self.given.limits)
        falling = whole - (whole - smallest) * stage / stages
        return max(falling, self.given.limits[budget])

    def kept(self, budget: int, place: Place) -> Tensor:
        """Return an (N,) mask of the groups that a budget keeps now."""
        return self.highest(self.scores, self.limit(budget, place))

    def gates(self, budget: int, place: Place, noise: torch.Generator | None = None) -> Tensor:
        kept = self.kept(budget, place)
        if self.config.relax == "soft":
            return relaxed_top_k(self.scores.double(), int(kept.sum()), self.config.temperature).float()
        # Their value is 0 or 1, and their gradient is that of the scores.
        return kept.to(self.scores) + (self.scores - self.scores.detach())

    def number(self, budget: int, place: Place) -> float:
        return float(self.kept(budget, place).sum())

    def rounded(self, place: Place, costs: TrueCosts) -> list[Rounding]:
        return round_scores(self.scores.tolist(), self.given.limits, costs)


def relaxed_top_k(scores: Tensor, k: int, temperature: float) -> Tensor:
    """Return the (N,) sum of k successive softmaxes, each of which makes what the ones before have drawn less likely.

    S. Xie, S. Ermon, "Reparameterizable subset sampling via continuous relaxations" (2019), without noise.
    """
    total = torch.zeros_like(scores)
    drawn = torch.zeros_like(scores)
    for _ in range(k):
        scores = scores + (1.0 - drawn).clamp(min=SMALLEST).log()
        drawn = torch.softmax(scores / temperature, dim=0)
        total = total + drawn
    return total
