"""Learning rate laws: pure functions of how far the run is."""

from __future__ import annotations

import math

from slimasr.config.schema import ScheduleConfig
from slimasr.errors import UserError


def progress_of(step: int, total_steps: int) -> float:
    """Share of the run at the middle of a step (counted from 0): neither the first nor the last rate is 0."""
    return (step + 0.5) / max(1, total_steps)


def learning_rate_scale(config: ScheduleConfig, progress: float) -> float:
    """Factor on the peak learning rate at ``progress`` in [0, 1].

    Linear rise over the first ``warmup`` share; then, with r the share done of what follows it:
    linear ``1 - (1 - final) r``, cosine ``final + (1 - final) (1 + cos(pi r)) / 2``, noam ``sqrt(warmup / progress)``
    (Vaswani et al. 2017), tri_stage: 1 for the ``hold`` share, then exponential decay to ``final`` at the end.

    Raises:
      UserError: noam without warm-up, or tri_stage with a final scale of 0: neither law is defined there.
    """
    warmup, final = config.warmup, config.final_scale
    if config.kind == "noam" and warmup == 0.0:
        raise UserError("training.schedule.warmup: noam needs a share above 0")
    if config.kind == "tri_stage" and final == 0.0:
        raise UserError("training.schedule.final_scale: tri_stage decays exponentially and needs a value above 0")
    if progress < warmup:
        return progress / warmup
    if config.kind == "constant":
        return 1.0
    if config.kind == "noam":
        return math.sqrt(warmup / progress)
    start = warmup + config.hold if config.kind == "tri_stage" else warmup
    done = 0.0 if progress <= start or start >= 1.0 else (progress - start) / (1.0 - start)
    if config.kind == "tri_stage":
        return final**done
    if config.kind == "cosine":
        return final + (1.0 - final) * (1.0 + math.cos(math.pi * done)) / 2.0
    return 1.0 - (1.0 - final) * done
