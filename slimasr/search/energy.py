"""What a search takes, kept in the record while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from slimasr.energy import EnergyMeter, EnergyReading
from slimasr.results.entry import merged
from slimasr.results.schema import Results
from slimasr.results.store import change_results

T = TypeVar("T")
WRITE_EVERY_SECONDS = 10.0


def metered(items: Iterable[T], exp: Path, meter: EnergyMeter | None) -> Iterator[T]:
    """Pass items on; ``energy.search`` of results.json grows by what they took, in this run and in all before.

    A kill loses the last ten seconds, and the processor time of workers that were running: the system counts it when
    they end. Without a meter nothing is written.
    """
    due = time.monotonic() + WRITE_EVERY_SECONDS
    try:
        for item in items:
            yield item
            if time.monotonic() > due:
                _record(exp, meter)
                due = time.monotonic() + WRITE_EVERY_SECONDS
    finally:
        _record(exp, meter)


def _record(exp: Path, meter: EnergyMeter | None) -> None:
    if meter is None:
        return
    reading = meter.read()

    def add(results: Results) -> Results:
        before = results.energy.get("search")
        total = reading.after(None if before is None else EnergyReading.of(before))
        return merged(results, Results(energy={"search": total.to_entry()}))

    change_results(exp, add)
