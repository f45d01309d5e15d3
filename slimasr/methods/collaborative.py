"""Collaborative training: encoders of several depths in one run, the shallower ones taught by the deepest (paper 3).

V. Nagaraja, Y. Shi et al., "Collaborative training of acoustic encoders for speech recognition" (2021), section 2.
"""

from __future__ import annotations

from collections.abc import Mapping

from slimasr.config.method import CollaborativeConfig
from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.objective.objective import loss_weights
from slimasr.supernet.space import SearchSpace


class Collaborative(Method):
    """Runs every branch of a tree on the whole batch, the deepest first, and all with equal weight.

    The predictor and all layers that branches have in common run once. Joiner, predictor and frame classifiers get
    gradients from every branch. The deepest branch teaches frame posteriors without learning from the others (paper 3,
    equation 7).
    """

    def __init__(self, space: SearchSpace, losses: Mapping[str, float], kl_weight: float = 0.0) -> None:
        """Create the method.

        Args:
            space: the branches, deepest first.
            losses: loss names and weights, for all branches.
            kl_weight: weight of the divergence of frame posteriors from those of the deepest branch; 0 = no teacher.
        """
        super().__init__(space, losses, share_predictor=True, share_encoder=True)
        self.kl_weight = kl_weight

    @classmethod
    def from_config(cls, config: Config, space: SearchSpace) -> Collaborative:
        assert isinstance(config.method, CollaborativeConfig)
        auxiliary = config.loss.auxiliary
        kl_weight = 0.0 if auxiliary is None else auxiliary.teaching_weight
        return cls(space, loss_weights(config), kl_weight)

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        deepest, *others = self.space
        if not self.kl_weight:
            return [Pass(subnet, self.losses) for subnet in self.space]
        taught = self.losses | {"frame_distillation": self.kl_weight}
        return [Pass(deepest, self.losses), *(Pass(subnet, taught, teacher=0) for subnet in others)]
