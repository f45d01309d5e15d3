"""The time and energy that a search takes, written to the record while it runs."""

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
"""Seconds between two updates of results.json; a kill loses at most what was used since the last one."""


def metered(items: Iterable[T], exp: Path, meter: EnergyMeter | None) -> Iterator[T]:
    """Pass items on, and add the time and energy they took to ``energy.search`` of results.json.

    A kill loses the last ten seconds, and the processor time of workers that were running, because the system adds it
    to this process only when they end. Without a meter nothing is written.

    Args:
        items: what is measured while it is iterated over.
        exp: experiment folder.
        meter: the running meter, None if energy is not measured.

    Yields:
        The items, unchanged.
    """
    due = time.monotonic() + WRITE_EVERY_SECONDS
    try:
        for item in items:
            yield item
            if time.monotonic() > due:
                _record(exp, meter)
                due = time.monotonic() + WRITE_EVERY_SECONDS
    finally:
        # This also records an iteration that fails or that its consumer abandons.
        _record(exp, meter)


def _record(exp: Path, meter: EnergyMeter | None) -> None:
    if meter is None:
        return
    reading = meter.read()

    def add(results: Results) -> Results:
        # The reading covers only the time since the previous one, so it is added to what the file holds.
        before = results.energy.get("search")
        total = reading.after(None if before is None else EnergyReading.of(before))
        return merged(results, Results(energy={"search": total.to_entry()}))

    change_results(exp, add)
