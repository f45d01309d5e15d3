"""The full depth and its exits, trained together in one encoder pass: baseline A3 of paper 2.

Every exit projects the encoder's output for itself and shares predictor and joiner output with the others; after
training each is a subnet of its own depth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from slimasr.config.schema import MultiExitConfig
from slimasr.data.batch import Batch
from slimasr.encoders.base import EncoderOutput
from slimasr.methods.base import Method, Pass, SharedPredictor, SharedTensors, StepContext, StepReport, weigh
from slimasr.objective.objective import Objective
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
        super().__init__(space, losses, share_predictor=True)
        self.exits = tuple(exits)
        self.exit_losses = {name: config.exit_weight * w for name, w in losses.items() if name != "auxiliary"}

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        # Written out, the path of all layers is the exit after the last one, not the max subnet.
        paths = {depth: tuple(range(depth)) for depth in self.exits}
        at_exits = [Pass(Subnet(1.0, path), self.exit_losses, role=f"exit{depth}") for depth, path in paths.items()]
        return [Pass(self.space.max, self.losses), *at_exits]

    def run(
        self,
        objective: Objective,
        batch: Batch,
        context: StepContext,
        normalizer: float,
        backward: Callable[[Tensor], None],
    ) -> StepReport:
        report, share = StepReport(), self.normalizer(batch) / normalizer
        encoder, predictor = SharedEncoder(objective, batch, self), SharedPredictor(objective, batch)
        for item in self.plan(batch, context):
            predictor_out = predictor.select(None, batch)
            hidden = encoder.output_of(item.subnet)
            output = self.forward_pass(objective, item, batch, context, None, predictor_out, encoder=hidden)
            backward(weigh(output, item, batch, report) * share)
        encoder.backward()
        predictor.backward()
        return report


class SharedEncoder(SharedTensors):
    """The encoder's output and its hidden states after the layers that exits and losses read, for all of a step's
    passes: memory holds one lattice at a time."""

    def __init__(self, objective: Objective, batch: Batch, method: MultiExit) -> None:
        last_layers = {depth - 1 for depth in method.exits}
        layers = sorted(last_layers | set(objective.taps_of(method.space.max, tuple(method.losses))))
        encoded = objective.model.encode(batch.x, batch.x_lens, method.space.max, layers)
        super().__init__([encoded.out, *(encoded.taps[layer] for layer in layers)])
        out, *taps = self.leaves
        self.output = EncoderOutput(out, encoded.lens, dict(zip(layers, taps, strict=True)))

    def output_of(self, subnet: Subnet) -> EncoderOutput:
        """What a pass of its own would give."""
        if subnet.path is None:
            return self.output
        return EncoderOutput(self.output.taps[subnet.path[-1]], self.output.lens, self.output.taps)
