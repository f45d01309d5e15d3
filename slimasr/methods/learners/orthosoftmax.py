"""OrthoSoftmax: N softmaxes over N groups, of which a budget adds up the first ones (paper 4, section 3.2).

J. Xu, E. Beck, Z. Yang, R. Schlueter, "Efficient supernet training with orthogonal softmax for scalable ASR model
compression" (2024), equations 4 to 6.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slimasr.config.learners import OrthoSoftmaxConfig
from slimasr.methods.learners.base import GroupCosts, Learner, Place, TrueCosts, at_least_one, below
from slimasr.methods.phases import ParameterGroup
from slimasr.supernet.groups import Rounding, round_rows

# Keeps the slope of the square root finite where all rows are orthogonal.
INSIDE_ROOT = 1e-12


class OrthoSoftmax(Learner):
    """Scores S (N, N); row i of the matrix W is softmax(S_i / T) over the groups.

    The soft mask of a budget is the sum of the first k rows, so that the masks of several budgets are nested. A penalty
    on the products of these rows makes each a choice of one group, and no two the same.
    """

    figure_names = ("k", "undecided", "off_identity")

    def __init__(self, costs: GroupCosts, config: OrthoSoftmaxConfig) -> None:
        """Draw the initial scores from torch's generator."""
        super().__init__(costs)
        self.config = config
        self.side = config.side
        number = len(costs.groups)
        self.scores = nn.Parameter(config.score_init_std * torch.randn(number, number))

    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup("scores", [self.scores], self.config.score_lr_scale, eps=self.config.score_eps)]

    def temperature(self, place: Place) -> float:
        """Return T, which falls by a constant factor in every step, down to its minimum."""
        config = self.config
        if config.temperature_decay is None:
            return float(config.temperature * (config.temperature_min / config.temperature) ** place.share)
        return float(max(config.temperature_min, config.temperature * config.temperature_decay**place.step))

    def orthogonality(self, place: Place) -> float:
        """Return the weight of the penalty, which changes linearly over step 1."""
        start, end = self.config.orthogonality_start, self.config.orthogonality_end
        return start + (end - start) * place.share

    def rows(self, place: Place) -> Tensor:
        """Return W (N, N), float64."""
        return torch.softmax(self.scores.double() / self.temperature(place), dim=1)

    def chosen(self, rows: Tensor, budget: int) -> Tensor:
        """Return which rows a budget adds up: an (N,) mask of the first k, at least one (paper 4, equation 4).

        It has no gradient. As a mask, it is computed without waiting for the device.
        """
        cumulative = self.given.rest + (rows.detach() @ self.costs).cumsum(0)
        limit = self.limits[budget]
        if self.config.rounding == "below":
            # Costs are positive, so that the sums rise and those below the limit come first.
            mask = below(cumulative, limit)
        else:
            mask = torch.arange(len(rows), device=rows.device) <= (cumulative - limit).abs().argmin()
        return at_least_one(mask)

    def gates(self, budget: int, place: Place, noise: torch.Generator | None = None) -> Tensor:
        rows = self.rows(place)
        return (self.chosen(rows, budget).to(rows) @ rows).float()

    def penalties(self, budget: int, place: Place) -> dict[str, Tensor]:
        """Return the weighted distance of the products of a budget's rows from the identity (paper 4, equation 5)."""
        weight = self.orthogonality(place)
        if weight == 0.0:
            return {}
        rows = self.rows(place)
        mask = self.chosen(rows, budget).to(rows)
        kept = rows * mask.unsqueeze(1)
        products = kept @ kept.T
        diagonal = (products.diagonal() - mask).square().sum()
        # Every pair of rows counts once.
        pairs = products.triu(1).square().sum()
        return {"orthogonality": weight * (diagonal + pairs + INSIDE_ROOT).sqrt()}

    def number(self, budget: int, place: Place) -> float:
        return float(self.chosen(self.rows(place), budget).sum())

    def rounded(self, place: Place, costs: TrueCosts) -> list[Rounding]:
        rows = self.rows(place).detach()
        counts = [int(self.chosen(rows, budget).sum()) for budget in range(len(self.limits))]
        return round_rows(rows.tolist(), counts, self.given.limits, costs)

    def statistics(self, place: Place) -> dict[str, float]:
        return {"temperature": self.temperature(place), "orthogonality": self.orthogonality(place)}

    def budget_statistics(self, budget: int, place: Place) -> dict[str, float]:
        rows = self.rows(place).detach()
        kept = rows[: int(self.chosen(rows, budget).sum())]
        distance = (kept @ kept.T - torch.eye(len(kept)).to(kept)).abs().max()
        return {**super().budget_statistics(budget, place), "off_identity": float(distance)}
