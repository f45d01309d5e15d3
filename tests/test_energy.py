"""Readings add up, nothing leaves the machine, guesses are not readings."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slimasr import energy
from slimasr.energy import (
    NO_METER,
    EnergyMeter,
    EnergyReading,
    find_meters,
    measure_energy,
)
from slimasr.errors import UserError

ABSENT = importlib.util.find_spec("codecarbon") is None
with_codecarbon = pytest.mark.skipif(ABSENT, reason="the extra energy is not installed")
READING = EnergyReading(2.0, 7200.0, 3600.0, 3600.0, "processor")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to reach another machine fails the test."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def burn(seconds: float) -> None:
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass


@with_codecarbon
def test_times_of_process_and_children(offline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "find_meters", tuple)
    with measure_energy(True, gpus=2) as meter:
        assert meter is not None
        burn(0.2)
        first = meter.read()
        code = "import time\nwhile time.process_time() < 0.3: pass"
        subprocess.run([sys.executable, "-c", code], check=True)
        second = meter.read()
    assert first.cpu_seconds >= 0.15  # the kernel counts in hundredths
    assert second.cpu_seconds >= 0.25
    assert second.wall_seconds > 0
    assert second.gpu_seconds == 2 * second.wall_seconds
    assert (second.kwh, second.source) == (None, NO_METER)


@with_codecarbon
def test_this_machine_is_read_or_says_that_it_cannot_be(offline: None) -> None:
    rapl = any(Path("/sys/class/powercap").glob("*/energy_uj"))
    with measure_energy(True) as meter:
        assert meter is not None
        burn(0.1)
        reading = meter.read()
    assert (reading.kwh is None) == (reading.source == NO_METER) == (not find_meters())
    if not rapl and "GPUs" not in find_meters():
        assert reading.kwh is None


@with_codecarbon
def test_only_metered_parts_count(
    offline: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The tracker runs for real; its figure for memory, always a guess, is left out, and it writes nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CODECARBON_EMISSIONS_ENDPOINT", "http://localhost:1")
    monkeypatch.setenv("CODECARBON_SAVE_TO_API", "true")
    monkeypatch.setattr(energy, "find_meters", lambda: ("processor",))
    meter = EnergyMeter()
    burn(0.2)
    first = meter.read()
    burn(0.2)
    second = meter.read()
    meter.stop()
    assert first.kwh is not None and second.kwh is not None
    assert first.kwh > 0
    assert second.kwh > 0
    assert meter.kept.total.ram_energy > 0
    assert first.kwh + second.kwh <= meter.kept.total.cpu_energy
    assert second.source == "processor of the machine, read by codecarbon"
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_not_asked_for_is_not_measured() -> None:
    with measure_energy(False) as meter:
        assert meter is None


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("codecarbon", "codecarbon.core.cpu", "codecarbon.core.gpu"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install 'slimasr\[energy\]'"), measure_energy(True):
        pass


def test_stretches_add_up() -> None:
    total = READING + replace(READING, kwh=0.5, cpu_seconds=1.0)
    assert total == EnergyReading(2.5, 7201.0, 7200.0, 7200.0, "processor")
    assert READING.after(None) == READING
    assert READING.after(READING) == READING + READING
    assert EnergyReading.of(READING.to_entry()) == READING
    unknown = READING + replace(READING, kwh=None, source=NO_METER)
    assert unknown.kwh is None
    assert unknown.source == f"processor; {NO_METER}"
    assert (unknown + READING).source == f"processor; {NO_METER}"
