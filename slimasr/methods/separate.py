"""The baseline of every paper: one model of one size, trained alone."""

from __future__ import annotations

from slimasr.data.batch import Batch
from slimasr.methods.base import Method, Pass, StepContext


class Separate(Method):
    """Trains the max subnet of a space that has only that one: the model is built at its own size."""

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        return [Pass(self.space.max, self.losses)]
