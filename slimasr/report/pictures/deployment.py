"""Energy of deploying several models: one supernet and its search, or a separate training for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slimasr.energy import EnergyReading
from slimasr.errors import UserError

HOUR = 3600.0


@dataclass(frozen=True)
class DeploymentEnergy:
    """Energy or time to get ``models`` models of different sizes.

    Attributes:
        models: number of deployed models.
        supernet: what one supernet and its search take for all of them.
        separate: what a separate training for each of them takes together.
    """

    models: int
    supernet: float
    separate: float


def energy_of_deployments(
    train: EnergyReading, search: EnergyReading, separate: Sequence[EnergyReading], n: int
) -> tuple[str, list[DeploymentEnergy]] | None:
    """Return the energy for 1 to ``n`` deployed models, supernet against separate training (paper 2, Fig. 2).

    A separate model of any size is assumed to cost the mean of the given runs.

    Returns:
        The unit (``kWh`` if all runs were metered, else ``GPU hours`` if all held GPUs, or ``CPU hours`` if none
        did), and a row per number of models. None if some runs held GPUs and others did not: no time compares them.

    Raises:
        UserError: there is no separate run to compare with.
    """
    if not separate:
        raise UserError("no separate training has an energy entry: train one with training.energy true")
    common = _in_common_unit([train, search, *separate])
    if common is None:
        return None
    # The figures come back in the order of the readings.
    unit, (training, searching, *others) = common
    # A supernet is trained and searched once, however many of its subnets are deployed.
    supernet = training + searching
    each = sum(others) / len(others)
    return unit, [DeploymentEnergy(models, supernet, models * each) for models in range(1, n + 1)]


def _in_common_unit(readings: Sequence[EnergyReading]) -> tuple[str, list[float]] | None:
    """The readings as numbers of one unit, in their order; None if no unit fits all of them."""
    metered = [reading.kwh for reading in readings if reading.kwh is not None]
    if len(metered) == len(readings):
        return "kWh", metered
    # Device time stands in for energy only if all runs used one kind of device.
    on_gpu = {reading.gpu_seconds > 0 for reading in readings}
    if on_gpu == {True}:
        return "GPU hours", [reading.gpu_seconds / HOUR for reading in readings]
    if on_gpu == {False}:
        return "CPU hours", [reading.cpu_seconds / HOUR for reading in readings]
    return None
