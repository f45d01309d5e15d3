"""The encoder of a step whose passes run paths of one tree: layers that several passes run are run once.

Every path is cut where another one leaves it, where a pass ends, and at the hidden states that losses read. At the end
of each such stretch of layers a leaf stands in for its output and gathers the gradients of all that reads it. A stretch
runs forward when the first pass needs it, and backward as soon as the last pass that runs through it is done, which
frees its graph. So memory holds the graphs of one path at a time, whatever the number of branches is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from slimasr.data.batches.batch import Batch
from slimasr.encoders.base import EncoderOutput
from slimasr.methods.sharing import Backward, SharedTensors
from slimasr.models.base import SpeechModel
from slimasr.supernet.subnet import Subnet

Prefix = tuple[int, ...]
"""The first layers of a path; the empty one stands for the front end alone."""


@dataclass(frozen=True)
class Route:
    """What one pass asks of the encoder.

    Attributes:
        path: ids of the layers that it runs, in order.
        taps: those of them whose hidden states it reads.
    """

    path: Prefix
    taps: frozenset[int] = frozenset()


class Stretch(SharedTensors):
    """Some layers in sequence that have run, with leaves in place of their output."""

    def __init__(self, output: EncoderOutput) -> None:
        super().__init__(output.tensors)
        self.output = output.with_tensors(self.leaves)


class ForkedEncoder:
    """Runs the encoder for all passes of a step."""

    def __init__(self, model: SpeechModel, batch: Batch, subnet: Subnet, routes: Sequence[Route]) -> None:
        """Run the path of the first pass, which comes before the predictor wherever random numbers are drawn.

        Args:
            model: the model.
            batch: the batch of the step.
            subnet: says the width of all passes; its path is ignored.
            routes: one per pass, in running order.
        """
        self._model = model
        self._batch = batch
        self._subnet = subnet
        self._routes = list(routes)
        self._cuts = cuts_of(routes)
        # The passes that still run through each stretch; a stretch is named by the layers up to its end.
        self._waiting: dict[Prefix, set[int]] = {}
        for number, prefixes in enumerate(self._cuts):
            for prefix in prefixes:
                self._waiting.setdefault(prefix, set()).add(number)
        self._stretches: dict[Prefix, Stretch] = {}
        self._reach(0)

    def output_of(self, number: int, rows: Sequence[int] | None) -> EncoderOutput:
        """Return what a pass of the encoder alone would return for some utterances, with gradients into leaves.

        Args:
            number: index of the pass.
            rows: indices of the utterances in the batch, None = all.
        """
        output = self._reach(number)
        taps = {}
        for prefix in self._cuts[number]:
            if prefix and prefix[-1] in self._routes[number].taps:
                taps[prefix[-1]] = self._stretches[prefix].output.out
        output = replace(output, taps=taps)
        return output if rows is None else output.select(rows)

    def finish(self, number: int, backward: Backward) -> None:
        """Note that a pass has propagated its gradients to the leaves, and go on from those that need no other pass."""
        # The end of the path first: each stretch adds to the leaf of the one below it.
        for prefix in reversed(self._cuts[number]):
            self._waiting[prefix].discard(number)
            if not self._waiting[prefix]:
                self._stretches.pop(prefix).backward(backward)

    def _reach(self, number: int) -> EncoderOutput:
        """Run what is left to run of the path of a pass, and return its output."""
        encoder = self._model.encoder
        hidden = None
        done = 0
        for prefix in self._cuts[number]:
            if prefix not in self._stretches:
                if hidden is None:
                    x = self._model.normalize(self._batch.x)
                    hidden = encoder.embed(x, self._batch.x_lens, self._subnet)
                layers = prefix[done:]
                self._stretches[prefix] = Stretch(encoder.run_layers(hidden, layers, self._subnet))
            hidden = self._stretches[prefix].output
            done = len(prefix)
        assert hidden is not None, "a path is cut at its end at least"
        return hidden


def cuts_of(routes: Sequence[Route]) -> list[list[Prefix]]:
    """Return where the path of each route is cut: the layers up to there, the shortest first."""
    following: dict[Prefix, set[int]] = {}
    cut = {route.path for route in routes}
    for route in routes:
        for place, layer in enumerate(route.path):
            following.setdefault(route.path[:place], set()).add(layer)
            if layer in route.taps:
                cut.add(route.path[: place + 1])
    cut |= {prefix for prefix, layers in following.items() if len(layers) > 1}
    return [[p for p in _prefixes(route.path) if p in cut] for route in routes]


def _prefixes(path: Prefix) -> list[Prefix]:
    return [path[:length] for length in range(len(path) + 1)]
