"""Slimmable training: every step runs every subnet on the whole batch and sums their losses.

S. Kumar, V. Chemudupati, "Investigating slimmable networks for transformer-based models in ASR" (2023), section 3.
"""

from __future__ import annotations

from slimasr.config.method import SlimmableConfig
from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.objective.objective import loss_weights
from slimasr.supernet.space import SearchSpace


class Slimmable(Method):
    """Trains all subnets of the space with equal weights, with one optimiser step for their summed gradient."""

    @classmethod
    def from_config(cls, config: Config, space: SearchSpace) -> Slimmable:
        assert isinstance(config.method, SlimmableConfig)
        share_predictor = config.method.share_predictor is not False
        return cls(space, loss_weights(config), share_predictor)

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        return [Pass(subnet, self.losses) for subnet in self.space]
