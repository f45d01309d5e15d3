"""The full depth and its exits, trained together in one encoder pass: baseline A3 of paper 2.

Every exit projects the encoder's output for itself and shares predictor and joiner output with the others; after
training each is a subnet of its own depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slimasr.config.method import MultiExitConfig
from slimasr.config.schema import Config
from slimasr.data.batch import Batch
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.objective.objective import loss_weights
from slimasr.supernet.space import SearchSpace
from slimasr.supernet.subnet import Subnet


class MultiExit(Method):
    """All the recipe's losses at the full depth, and ``exit_weight`` times as much at every exit.

    Frame targets belong to layers, not to exits, and count once. CTC has one head for all depths, so an exit after the
    last layer adds to its weight.
    """

    def __init__(
        self, space: SearchSpace, losses: Mapping[str, float], exits: Sequence[int], config: MultiExitConfig
    ) -> None:
        """``exits``: the depths after which the model has one."""
        super().__init__(space, losses, share_predictor=True, share_encoder=True)
        self.exits = tuple(exits)
        self.exit_losses = {name: config.exit_weight * w for name, w in losses.items() if name != "auxiliary"}

    @classmethod
    def from_config(cls, config: Config, space: SearchSpace) -> MultiExit:
        assert isinstance(config.method, MultiExitConfig)
        return cls(space, loss_weights(config.loss), config.model.exits, config.method)

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        # Written out, the path of all layers is the exit after the last one, not the max subnet.
        paths = {depth: tuple(range(depth)) for depth in self.exits}
        at_exits = [Pass(Subnet(1.0, path), self.exit_losses, role=f"exit{depth}") for depth, path in paths.items()]
        return [Pass(self.space.max, self.losses), *at_exits]
