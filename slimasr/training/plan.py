"""A run's plan: how many optimiser steps it was meant to have when it began, and where in them it is.

Learning rates, loss weights and weight averaging follow the position in the plan. While neither the number of processes
nor the data change, the position is the number of steps done. After a change each step advances the position by more
or less than one planned step, so that every epoch, and with it the run, still ends where the plan ends it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """What was planned when the run began. Every checkpoint holds it.

    Attributes:
      steps: optimiser steps of each epoch.
      world_size: number of processes that they were counted for.
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
    """Optimiser steps of an epoch that one number of processes does on the same data, spread evenly over the plan.

    Attributes:
      start: position in planned steps before the first of these steps.
      end: position after the last.
      steps: how many steps there are.
    """

    start: float
    end: float
    steps: int

    @property
    def stride(self) -> float:
        """Planned steps that one of these steps advances."""
        return (self.end - self.start) / max(1, self.steps)

    def position(self, done: int) -> float:
        """Position in planned steps after ``done`` of these steps."""
        if done >= self.steps:
            return float(self.end)
        return self.start + (self.end - self.start) * done / self.steps


def passes_multiple(before: float, after: float, period: int) -> bool:
    """Whether a multiple of ``period`` lies above ``before`` and not above ``after``.

    Positions that follow one another share their ends, so each multiple is passed exactly once.
    """
    return after // period > before // period


def changes(plan: Plan, present: Plan, world_size: int, position: float) -> list[str]:
    """What a resumed run has to say, a line each, about processes and data that are not those it had before.

    Args:
      plan: the run's.
      present: what would be planned now.
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
    if now == plan.world_size and present.steps != plan.steps:
        notes.append(
            f"the training data make {present.total} optimiser steps, {plan.total} were planned when the run began: "
            f"the plan stays, and the schedule continues at {done}"
        )
    return notes


def without_plan(world_size: int) -> str:
    """What a run says that goes on from a checkpoint of an earlier version, which holds no plan."""
    return (
        "the checkpoint holds no plan (an earlier version wrote it): the schedule is that of the present data with "
        f"{count_processes(world_size)}"
    )


def count_processes(number: int) -> str:
    """``1 process``, ``2 processes``."""
    return f"{number} process" if number == 1 else f"{number} processes"
