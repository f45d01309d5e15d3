"""Batches that are tried before training begins. They change nothing and count as no step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, islice

from slimasr.data.batches.batch import Batch
from slimasr.methods.base import StepContext
from slimasr.models.base import FRAMES_PER_SECOND
from slimasr.training.guards import explained_out_of_memory, untouched
from slimasr.training.step import Stepper


def try_batch(stepper: Stepper, batch: Batch, context: StepContext, name: str) -> None:
    """Run a batch forward and backward.

    Args:
        stepper: runs the passes of a step.
        batch: the batch.
        context: the position of the run.
        name: name of the batch in the message if memory does not suffice.
    """
    modules = (stepper.objective, stepper.method)
    for module in modules:
        module.train()
    with untouched(*modules), stepper.clock.part("rest", whole=True), explained_out_of_memory(name):
        stepper.gradients([batch], context)


def try_largest(stepper: Stepper, batches: Iterable[Batch], context: StepContext) -> None:
    """Run the largest batches, so that a lack of memory shows now."""
    for batch in batches:
        seconds = float(batch.x_lens.sum()) / FRAMES_PER_SECOND
        try_batch(stepper, batch, context, f"largest batch ({len(batch)} utterances, {seconds:.0f} s)")


def repeated_trial(stepper: Stepper, batches: Iterator[Batch], context: StepContext) -> Callable[[], None]:
    """Return a function that runs the first of some batches at every call; the first call reads it."""
    first = cycle(islice(batches, 1))
    return lambda: try_batch(stepper, next(first), context, "first batch")
