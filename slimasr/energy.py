"""Measure the energy of a stage if the machine has meters, and in any case processor and GPU time.

codecarbon's offline tracker reads the meters. Without a meter it would estimate energy from the processor's data sheet;
such an estimate is not a measurement, so then only times are reported.
"""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from slimasr.errors import UserError
from slimasr.results.schema import EnergyEntry

NO_METER = "no readable meter"
METERS = {"processor": "cpu", "GPUs": "gpu"}
"""The devices with meters, and codecarbon's names for them."""


@dataclass(frozen=True)
class EnergyReading:
    """The energy and time of a piece of work; readings are added with ``+``.

    Attributes:
        kwh: energy of processor and GPUs of the whole machine; None without a readable meter.
        cpu_seconds: processor time of this process and its finished children.
        gpu_seconds: wall time x GPUs in use.
        wall_seconds: wall time.
        source: the meters that were read.
    """

    kwh: float | None
    cpu_seconds: float
    gpu_seconds: float
    wall_seconds: float
    source: str

    def __add__(self, other: EnergyReading) -> EnergyReading:
        """The sum has no energy if one of the parts has none."""
        return EnergyReading(
            None if self.kwh is None or other.kwh is None else self.kwh + other.kwh,
            self.cpu_seconds + other.cpu_seconds,
            self.gpu_seconds + other.gpu_seconds,
            self.wall_seconds + other.wall_seconds,
            # Every source is named once.
            "; ".join(dict.fromkeys([*self.source.split("; "), *other.source.split("; ")])),
        )

    def after(self, before: EnergyReading | None) -> EnergyReading:
        """The sum of this reading and an earlier one, if any: the stage was interrupted and resumed."""
        return self if before is None else before + self

    @classmethod
    def of(cls, entry: EnergyEntry) -> EnergyReading:
        """The reading that a result file holds."""
        return cls(entry.kwh, entry.cpu_seconds, entry.gpu_seconds, entry.wall_seconds, entry.source)

    def to_entry(self) -> EnergyEntry:
        """The reading as a result file holds it."""
        return EnergyEntry(
            kwh=self.kwh,
            cpu_seconds=self.cpu_seconds,
            gpu_seconds=self.gpu_seconds,
            wall_seconds=self.wall_seconds,
            source=self.source,
        )


class EnergyMeter:
    """Starts measuring when constructed. Use `measure_energy`, which also stops it."""

    def __init__(self, gpus: int = 0) -> None:
        """``gpus`` is the number of GPUs in use.

        Raises:
            UserError: the extra ``energy`` is not installed.
        """
        self.gpus = gpus
        self.meters = find_meters()
        self.kept = _Keep()
        self.tracker = _tracker(self.kept) if self.meters else None
        # `read` returns differences from these totals.
        self.before = self._totals()

    def read(self) -> EnergyReading:
        """The usage since the last reading, or since the start."""
        totals = self._totals()
        kwh, cpu, wall = (now - then for now, then in zip(totals, self.before, strict=True))
        self.before = totals
        if self.tracker is None:
            return EnergyReading(None, cpu, wall * self.gpus, wall, NO_METER)
        source = f"{' and '.join(self.meters)} of the machine, read by codecarbon"
        return EnergyReading(kwh, cpu, wall * self.gpus, wall, source)

    def _totals(self) -> tuple[float, float, float]:
        """kWh, CPU seconds and wall seconds since fixed points in time."""
        kwh = 0.0
        used = os.times()
        if self.tracker is not None:
            # codecarbon reads meters at intervals; flush reads them now and passes the totals to `_Keep`.
            self.tracker.flush()
            energies = (getattr(self.kept.total, f"{METERS[meter]}_energy") for meter in self.meters)
            kwh = float(sum(energies))
        # Children count only once they have ended and were waited for.
        cpu_seconds = used.user + used.system + used.children_user + used.children_system
        return kwh, cpu_seconds, time.perf_counter()

    def stop(self) -> None:
        """Stop the tracker's threads."""
        if self.tracker is not None:
            self.tracker.stop()


@contextmanager
def measure_energy(enabled: bool, gpus: int = 0) -> Iterator[EnergyMeter | None]:
    """Run a meter inside the block; None if ``enabled`` is false.

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
    """The devices of this machine that have meters: ``processor`` (RAPL), ``GPUs`` (their driver).

    Raises:
        UserError: the extra ``energy`` is not installed.
    """
    # codecarbon warns of every device that it cannot measure.
    logging.getLogger("codecarbon").setLevel(logging.ERROR)
    cpu = _codecarbon(".core.cpu")
    gpu = _codecarbon(".core.gpu")
    readable = {
        "processor": cpu.is_rapl_available(),
        "GPUs": gpu.is_nvidia_system() or gpu.is_rocm_system(),
    }
    return tuple(name for name, found in readable.items() if found)


class _Keep:
    """An output of the tracker that keeps its newest values (codecarbon's ``BaseOutput``)."""

    total: Any = None

    def out(self, total: Any, delta: Any) -> None:
        self.total = total

    live_out = out

    def task_out(self, data: Any, experiment_name: str) -> None:
        """Nothing is split into tasks."""

    def exit(self) -> None:
        """Nothing is open."""


def _tracker(kept: _Keep) -> Any:
    """Start a tracker that writes nothing to disk or network, overriding any codecarbon configuration file."""
    tracker = _codecarbon("").OfflineEmissionsTracker(
        # A country is needed for emissions, which are not used.
        country_iso_code="USA",
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
