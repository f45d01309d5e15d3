"""Energy of deploying several models: one supernet and its search, or a separate training for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slimasr.energy import EnergyReading
from slimasr.errors import UserError

HOUR = 3600.0


@dataclass(frozen=True)
class DeploymentEnergy:
    """What it takes to get models of so many sizes: one supernet and its search, or a training for each."""

    models: int
    supernet: float
    separate: float


def energy_of_deployments(
    train: EnergyReading, search: EnergyReading, separate: Sequence[EnergyReading], n: int
) -> tuple[str, list[DeploymentEnergy]] | None:
    """Energy for 1 to ``n`` deployed models, supernet against separate training (paper 2, Fig. 2).

    A separate model of any size is taken to cost the mean of the runs at hand.

    Returns:
        The unit (``kWh`` where all was metered, else ``GPU hours`` where all held GPUs, or ``CPU hours`` where none
        did), and a row per number of models. None where some held GPUs and others did not: no time compares them.

    Raises:
        UserError: there is no separate run to compare with.
    """
    if not separate:
        raise UserError("no separate training has an energy entry: train one with training.energy true")
    common = _in_common_unit([train, search, *separate])
    if common is None:
        return None
    unit, (training, searching, *others) = common
    supernet = training + searching
    each = sum(others) / len(others)
    return unit, [DeploymentEnergy(models, supernet, models * each) for models in range(1, n + 1)]


def _in_common_unit(readings: Sequence[EnergyReading]) -> tuple[str, list[float]] | None:
    metered = [reading.kwh for reading in readings if reading.kwh is not None]
    if len(metered) == len(readings):
        return "kWh", metered
    held = {reading.gpu_seconds > 0 for reading in readings}
    if held == {True}:
        return "GPU hours", [reading.gpu_seconds / HOUR for reading in readings]
    if held == {False}:
        return "CPU hours", [reading.cpu_seconds / HOUR for reading in readings]
    return None
