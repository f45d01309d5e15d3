"""Energy of one supernet against a training for each deployed model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slimasr.energy import EnergyReading
from slimasr.errors import UserError
from slimasr.report.pictures.deployment import DeploymentEnergy, energy_of_deployments

READING = EnergyReading(2.0, 7200.0, 3600.0, 3600.0, "processor")


def test_one_supernet_or_a_training_for_each() -> None:
    search, small = replace(READING, kwh=0.5), replace(READING, kwh=1.0, cpu_seconds=3600.0, gpu_seconds=0.0)
    unit, rows = deployments(READING, search, [READING, small], 3)
    assert unit == "kWh"
    assert [(row.models, row.supernet, row.separate) for row in rows] == [(1, 2.5, 1.5), (2, 2.5, 3.0), (3, 2.5, 4.5)]
    short = replace(READING, kwh=None, gpu_seconds=1800.0)
    unit, rows = deployments(READING, search, [READING, short], 30)
    assert (unit, len(rows)) == ("GPU hours", 30)
    assert (rows[-1].supernet, rows[-1].separate) == (2.0, 30 * 0.75)
    unmetered = replace(small, kwh=None)
    unit, rows = deployments(unmetered, unmetered, [unmetered], 1)
    assert (unit, rows[0].supernet, rows[0].separate) == ("CPU hours", 2.0, 1.0)
    with pytest.raises(UserError, match="no separate training"):
        energy_of_deployments(READING, search, [], 3)


def test_times_of_different_devices_are_not_compared() -> None:
    """A search or a separate training without GPU would count as nothing in GPU hours."""
    here = replace(READING, kwh=None)
    elsewhere = replace(here, gpu_seconds=0.0)
    for readings in ((elsewhere, here, here), (here, elsewhere, here), (here, here, elsewhere)):
        train, search, separate = readings
        assert energy_of_deployments(train, search, [here, separate], 3) is None


def deployments(*arguments: Any) -> tuple[str, list[DeploymentEnergy]]:
    found = energy_of_deployments(*arguments)
    assert found is not None
    return found
