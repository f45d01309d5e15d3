"""A run's plan: the number of optimiser steps planned when it began, and the run's position in them.

Learning rates, loss weights and weight averaging depend on the position in the plan. As long as neither the number of
processes nor the data change, the position is the number of steps done. After a change, each step advances the position
by more or less than one planned step, so that every epoch, and thus the run, still ends where planned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slimasr.data.memory.sampling import EpochPart
from slimasr.training.batches import TrainingBatches
from slimasr.training.checkpoint import RunState


@dataclass(frozen=True)
class Plan:
    """The plan made when the run began. Every checkpoint stores it.

    Attributes:
        steps: optimiser steps of each epoch.
        world_size: number of processes for which the steps were counted.
    """

    steps: tuple[int, ...]
    world_size: int

    @property
    def total(self) -> int:
        """Planned steps of the whole run."""
        return sum(self.steps)

    def end_of(self, epochs: int) -> int:
        """Planned steps of the first ``epochs`` epochs."""
        return sum(self.steps[:epochs])


@dataclass(frozen=True)
class Stretch:
    """The optimiser steps of an epoch for constant processes and data, spread evenly over the plan.

    Attributes:
        start: position in planned steps before the first of these steps.
        end: position after the last.
        steps: number of steps.
    """

    start: float
    end: float
    steps: int

    @property
    def stride(self) -> float:
        """Planned steps by which each of these steps advances the position."""
        return (self.end - self.start) / max(1, self.steps)

    def position(self, done: int) -> float:
        """Position in planned steps after ``done`` of these steps."""
        # Exactly the end, without rounding: the next epoch begins there. A stretch without steps is at its end too.
        if done >= self.steps:
            return float(self.end)
        return self.start + (self.end - self.start) * done / self.steps


class Course:
    """A run's plan and the present length of its epochs, which together determine the position of a `RunState`."""

    def __init__(self, num_batches: Sequence[int], accumulate: int, world_size: int) -> None:
        """Create the course of a new run.

        Args:
            num_batches: batches of every epoch, per process, with the present data and processes.
            accumulate: batches of one optimiser step, per process.
            world_size: number of processes.
        """
        self.num_batches = tuple(num_batches)
        self.accumulate = accumulate
        self.world_size = world_size
        self.plan = Plan(tuple(map(self.steps_of, self.num_batches)), world_size)

    def steps_of(self, num_batches: int) -> int:
        """Return the number of optimiser steps for this number of batches per process."""
        return math.ceil(num_batches / self.accumulate)

    def steps_left(self, state: RunState) -> int:
        """Return the number of optimiser steps left in the running epoch."""
        return self.steps_of(state.num_batches) - self.steps_of(state.batch)

    def position(self, state: RunState) -> float:
        """Return the number of planned steps done."""
        return self._stretch(state).position(self.steps_of(state.batch))

    def stride(self, state: RunState) -> float:
        """Return the planned steps by which the next step advances the position."""
        return self._stretch(state).stride

    def begin_epoch(self, state: RunState) -> None:
        """Set a state to the beginning of the epoch after the finished ones."""
        state.batch = 0
        state.parts = []
        state.world_size = self.world_size
        state.origin = self.plan.end_of(state.epoch)
        # After the last epoch there is no next one.
        state.num_batches = self.num_batches[state.epoch] if state.epoch < len(self.num_batches) else 0

    def resume(self, state: RunState, stored: Mapping[str, Any] | None, train: TrainingBatches) -> list[str]:
        """Continue a checkpoint's state and plan with the present processes and data.

        Args:
            state: the checkpoint's, changed in place.
            stored: the checkpoint's plan; None for checkpoints of earlier versions, which get the present plan.
            train: the present data.

        Returns:
            Notes for the user, one line each.
        """
        present = self.plan
        if stored is None:
            notes = [describe_missing_plan(self.world_size)]
            # Such checkpoints hold none of these values, so the present ones are taken.
            state.world_size = self.world_size
            state.origin = self.plan.end_of(state.epoch)
            state.num_batches = self.num_batches[state.epoch] if state.mid_epoch else 0
        else:
            # The stored plan stays valid, so that schedules end where they were planned to end.
            self.plan = Plan(tuple(stored["steps"]), stored["world_size"])
            notes = describe_changes(self.plan, present, state.world_size, self.position(state))
        if state.mid_epoch:
            self._resume_epoch(state, train)
        else:
            self.begin_epoch(state)
        return notes

    def _resume_epoch(self, state: RunState, train: TrainingBatches) -> None:
        """Redistribute the rest of the running epoch if the processes or the data differ from the checkpoint's."""
        epoch = state.epoch + 1
        same_world = state.world_size == self.world_size
        if same_world and train.num_train_batches(epoch, state.parts) == state.num_batches:
            return
        # The batches done become an earlier part; the rest of the epoch begins at the position reached. The position is
        # computed first, as it depends on all fields that change below.
        state.origin = self.position(state)
        state.parts = [*state.parts, EpochPart(state.world_size, state.batch, state.num_batches)]
        state.batch = 0
        state.world_size = self.world_size
        state.num_batches = train.num_train_batches(epoch, state.parts)

    def _stretch(self, state: RunState) -> Stretch:
        """Return the steps of the running epoch since its last change of processes or data, in the plan."""
        end = self.plan.end_of(state.epoch + 1)
        return Stretch(state.origin, end, self.steps_of(state.num_batches))


def passes_multiple(before: float, after: float, period: int) -> bool:
    """Whether a multiple of ``period`` is in the interval (``before``, ``after``].

    Consecutive intervals share their ends, so each multiple is counted exactly once.
    """
    return after // period > before // period


def describe_changes(plan: Plan, present: Plan, world_size: int, position: float) -> list[str]:
    """Describe a changed number of processes or changed data to the user of a resumed run, one line each.

    Args:
        plan: the run's plan.
        present: the plan that the present processes and data would have.
        world_size: number of processes that wrote the checkpoint.
        position: planned steps done.
    """
    notes = []
    done = f"{100.0 * position / max(1, plan.total):.1f} % of the run"
    now = present.world_size
    if now != world_size:
        notes.append(
            f"resuming with {count_processes(now)}, the checkpoint is from {count_processes(world_size)}: the schedule "
            f"continues at {done} and ends where it was planned to end; each optimiser step takes the batches of "
            f"{count_processes(now)}, {now / world_size:.3g} times as many utterances as before"
        )
    # With another number of processes, the numbers of steps differ in any case and say nothing about the data.
    if now == plan.world_size and present.steps != plan.steps:
        notes.append(
            f"the training data make {present.total} optimiser steps, {plan.total} were planned when the run began: "
            f"the plan stays, and the schedule continues at {done}"
        )
    return notes


def describe_missing_plan(world_size: int) -> str:
    """Describe that a run resumes from a checkpoint of an earlier version, which has no plan."""
    return (
        "the checkpoint holds no plan (an earlier version wrote it): the schedule is that of the present data with "
        f"{count_processes(world_size)}"
    )


def count_processes(number: int) -> str:
    """Return ``1 process``, ``2 processes``."""
    return f"{number} process" if number == 1 else f"{number} processes"
