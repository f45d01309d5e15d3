"""Energy of a stage, as far as the machine can tell; processor and GPU time in any case.

codecarbon's offline tracker reads the meters. Where there is none it would guess from the processor's data sheet;
a guess is no reading, so then only times are reported.
"""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from slimasr.errors import UserError

NO_METER = "no readable meter"
HOUR = 3600.0
METERS = {"processor": "cpu", "GPUs": "gpu"}
"""What has a meter, and codecarbon's word for it."""


@dataclass(frozen=True)
class EnergyReading:
    """What a stretch of work took; stretches add up with ``+``.

    Attributes:
        kwh: energy of processor and GPUs of the whole machine; None without a readable meter.
        cpu_seconds: processor time of this process and its finished children.
        gpu_seconds: wall time x GPUs held.
        wall_seconds: wall time.
        source: which meters were read.
    """

    kwh: float | None
    cpu_seconds: float
    gpu_seconds: float
    wall_seconds: float
    source: str

    def __add__(self, other: EnergyReading) -> EnergyReading:
        """Energy is unknown as soon as it is for one part."""
        return EnergyReading(
            None if self.kwh is None or other.kwh is None else self.kwh + other.kwh,
            self.cpu_seconds + other.cpu_seconds,
            self.gpu_seconds + other.gpu_seconds,
            self.wall_seconds + other.wall_seconds,
            "; ".join(dict.fromkeys([*self.source.split("; "), *other.source.split("; ")])),
        )

    def after(self, before: Mapping[str, Any] | None) -> EnergyReading:
        """This reading and an earlier one from JSON, if there is one: a stage that was interrupted goes on."""
        return self if before is None else EnergyReading(**before) + self

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


class EnergyMeter:
    """Runs from its making on; `measure_energy` makes and stops it."""

    def __init__(self, gpus: int = 0) -> None:
        """``gpus``: how many the work holds.

        Raises:
            UserError: the extra ``energy`` is not installed.
        """
        self.gpus = gpus
        self.meters = find_meters()
        self.kept = _Keep()
        self.tracker = _tracker(self.kept) if self.meters else None
        self.before = self._totals()

    def read(self) -> EnergyReading:
        """What was used since the last reading, or since the beginning."""
        totals = self._totals()
        kwh, cpu, wall = (now - then for now, then in zip(totals, self.before, strict=True))
        self.before = totals
        if self.tracker is None:
            return EnergyReading(None, cpu, wall * self.gpus, wall, NO_METER)
        source = f"{' and '.join(self.meters)} of the machine, read by codecarbon"
        return EnergyReading(kwh, cpu, wall * self.gpus, wall, source)

    def _totals(self) -> tuple[float, float, float]:
        """kWh, CPU seconds and wall seconds since some fixed points."""
        kwh, used = 0.0, os.times()
        if self.tracker is not None:
            self.tracker.flush()
            kwh = float(sum(getattr(self.kept.total, f"{METERS[meter]}_energy") for meter in self.meters))
        return kwh, used.user + used.system + used.children_user + used.children_system, time.perf_counter()

    def stop(self) -> None:
        """End the tracker's threads."""
        if self.tracker is not None:
            self.tracker.stop()


@contextmanager
def measure_energy(enabled: bool, gpus: int = 0) -> Iterator[EnergyMeter | None]:
    """A running meter, or None where energy is not asked for.

    Raises:
        UserError: the extra ``energy`` is not installed.
    """
    if not enabled:
        yield None
        return
    meter = EnergyMeter(gpus)
    try:
        yield meter
    finally:
        meter.stop()


def find_meters() -> tuple[str, ...]:
    """What this machine has meters for: ``processor`` (RAPL), ``GPUs`` (their driver).

    Raises:
        UserError: the extra ``energy`` is not installed.
    """
    logging.getLogger("codecarbon").setLevel(logging.ERROR)
    cpu, gpu = _codecarbon(".core.cpu"), _codecarbon(".core.gpu")
    readable = {"processor": cpu.is_rapl_available(), "GPUs": gpu.is_nvidia_system() or gpu.is_rocm_system()}
    return tuple(name for name, found in readable.items() if found)


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
        The unit, ``kWh`` where all was metered, else ``GPU hours`` where all held GPUs, ``CPU hours`` where none did;
            and
        a row per number of models. None where some held GPUs and others did not: no time compares them.

    Raises:
        UserError: there is no separate run to compare with.
    """
    if not separate:
        raise UserError("no separate training has an energy entry: train one with training.energy true")
    common = _in_common_unit([train, search, *separate])
    if common is None:
        return None
    unit, values = common
    supernet, each = values[0] + values[1], sum(values[2:]) / len(separate)
    return unit, [DeploymentEnergy(models, supernet, models * each) for models in range(1, n + 1)]


def _in_common_unit(readings: Sequence[EnergyReading]) -> tuple[str, list[float]] | None:
    metered = [reading.kwh for reading in readings if reading.kwh is not None]
    if len(metered) == len(readings):
        return "kWh", metered
    held = {reading.gpu_seconds > 0 for reading in readings}
    if held == {True}:
        return "GPU hours", [reading.gpu_seconds / HOUR for reading in readings]
    return ("CPU hours", [reading.cpu_seconds / HOUR for reading in readings]) if held == {False} else None


class _Keep:
    """An output of the tracker's that holds the newest figures (codecarbon's ``BaseOutput``)."""

    total: Any = None

    def out(self, total: Any, delta: Any) -> None:
        self.total = total

    live_out = out

    def task_out(self, data: Any, experiment_name: str) -> None:
        """Nothing is split into tasks."""

    def exit(self) -> None:
        """Nothing is open."""


def _tracker(kept: _Keep) -> Any:
    """A running tracker; every other way out of it is closed, whatever codecarbon's own configuration says."""
    tracker = _codecarbon("").OfflineEmissionsTracker(
        country_iso_code="USA",  # for emissions, which are not used
        tracking_mode="machine",
        output_methods=[],
        output_handlers=[kept],
        emissions_endpoint=None,
        electricitymaps_api_token=None,
        allow_multiple_runs=True,
        log_level="error",
    )
    tracker.start()
    return tracker


def _codecarbon(module: str) -> Any:
    try:
        return importlib.import_module(f"codecarbon{module}")
    except ModuleNotFoundError:
        raise UserError("codecarbon is not installed: pip install 'slimasr[energy]', or set energy to false") from None
