"""Multi-exit training: the full depth and its exits share one encoder pass (baseline A3 of paper 2, Aux-Loss of 4).

Every exit is a head of the model. Of a transducer, it is a projection of the encoder's output, and all exits share the
predictor and the joiner's output layer. Of a CTC model, it is an output layer. After training, each exit is a subnet of
its own depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slimasr.config.method import MultiExitConfig
from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.objective.objective import loss_weights
from slimasr.supernet.space import SearchSpace
from slimasr.supernet.subnet import Subnet, exit_name


class MultiExit(Method):
    """Trains with all losses of the recipe at the full depth, and with ``exit_weight`` times these at every exit.

    Frame targets belong to layers, not to exits, and count once. The auxiliary CTC head of a transducer serves all
    depths, so an exit after the last layer adds to its weight.
    """

    def __init__(
        self,
        space: SearchSpace,
        losses: Mapping[str, float],
        exits: Sequence[int],
        config: MultiExitConfig,
    ) -> None:
        """Create the method.

        Args:
            exits: depths (numbers of layers) after which the model has an exit.
        """
        super().__init__(space, losses, share_predictor=True, share_encoder=True)
        self.exits = tuple(exits)
        self.exit_losses = {name: config.exit_weight * w for name, w in losses.items() if name != "auxiliary"}

    @classmethod
    def from_config(cls, config: Config, space: SearchSpace) -> MultiExit:
        assert isinstance(config.method, MultiExitConfig)
        return cls(space, loss_weights(config), config.model.exits, config.method)

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        passes = [Pass(self.space.max, self.losses)]
        for depth in self.exits:
            name = exit_name(depth)
            passes.append(Pass(Subnet(1.0, tuple(range(depth)), head=name), self.exit_losses, role=name))
        return passes
