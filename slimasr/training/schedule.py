"""Learning rate schedules, which are pure functions of the position in the run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from slimasr.config.training import (
    EdenScheduleConfig,
    ForceAnnealScheduleConfig,
    ProgressScheduleConfig,
    ScheduleConfig,
)


def progress_of(step: float, total_steps: int, stride: float = 1.0) -> float:
    """Return the fraction of the run at the middle of a step, so that neither the first nor the last rate is 0."""
    return (step + 0.5 * stride) / max(1, total_steps)


def learning_rate_scale(
    config: ScheduleConfig, step: float, total_steps: int, epoch: int, stride: float = 1.0
) -> float:
    """Return the factor on the peak learning rate at a step of an epoch (counted from 1).

    Args:
        config: the schedule.
        step: planned steps done before it.
        total_steps: planned steps of the whole run.
        stride: planned steps by which this step advances; 1 unless the number of processes or the data changed.
    """
    if config.kind == "force_anneal":
        return force_anneal_scale(config, step, epoch, stride)
    if config.kind == "eden":
        return eden_scale(config, step, epoch)
    progress = progress_of(step, total_steps, stride)
    return piecewise_scale(config.points, progress) if config.kind == "piecewise" else progress_scale(config, progress)


def force_anneal_scale(config: ForceAnnealScheduleConfig, step: float, epoch: int, stride: float = 1.0) -> float:
    """Return 1 before ``anneal_epoch``, then the factor to the power of the epochs begun since, including it.

    See paper 2, section 4.
    """
    # Linear rise over `warmup_steps`; the first rate is that at the end of the first step, so it is not 0.
    warm = min(1.0, (step + stride) / config.warmup_steps) if config.warmup_steps else 1.0
    annealed = max(0, epoch + 1 - config.anneal_epoch)
    return float(warm * config.factor**annealed)


def eden_scale(config: EdenScheduleConfig, step: float, epoch: int) -> float:
    """Return ``((b^2 + B^2) / B^2)^-1/4 ((e^2 + E^2) / E^2)^-1/4`` for b steps and e epochs done (Yao et al. 2023)."""
    # The warm-up rises from `warmup_start`, not from 0.
    warm = 1.0
    if step < config.warmup_steps:
        warm = config.warmup_start + (1.0 - config.warmup_start) * step / config.warmup_steps
    by_step = (1.0 + (step / config.steps) ** 2) ** -0.25
    by_epoch = (1.0 + ((epoch - 1) / config.epochs) ** 2) ** -0.25
    return float(warm * by_step * by_epoch)


def piecewise_scale(points: Sequence[tuple[float, float]], progress: float) -> float:
    """Return the factor on the peak learning rate at ``progress`` in [0, 1], on straight lines between the points.

    Args:
        points: (progress, factor), progress rising from 0 to 1; where two have the same progress, the later holds.
    """
    for (start, first), (end, last) in itertools.pairwise(points):
        if progress < end:
            return first + (last - first) * (progress - start) / (end - start)
    return points[-1][1]


def progress_scale(config: ProgressScheduleConfig, progress: float) -> float:
    """Return the factor on the peak learning rate at ``progress`` in [0, 1].

    It rises linearly over the first fraction ``warmup``; then, with r the completed fraction of the rest, it is
    linear ``1 - (1 - final) r``, cosine ``final + (1 - final) (1 + cos(pi r)) / 2``, noam ``sqrt(warmup / progress)``
    (Vaswani et al. 2017), tri_stage: 1 for the fraction ``hold``, then exponential decay to ``final`` at the end.
    """
    warmup = config.warmup
    final = config.final_scale
    if progress < warmup:
        return progress / warmup
    if config.kind == "constant":
        return 1.0
    if config.kind == "noam":
        return math.sqrt(warmup / progress)
    # The kinds that are left decay from `start` on. Without a rest of the run, the rate stays at its peak.
    start = warmup + config.hold if config.kind == "tri_stage" else warmup
    done = 0.0 if progress <= start or start >= 1.0 else (progress - start) / (1.0 - start)
    if config.kind == "tri_stage":
        return final**done
    if config.kind == "cosine":
        return final + (1.0 - final) * (1.0 + math.cos(math.pi * done)) / 2.0
    return 1.0 - (1.0 - final) * done
