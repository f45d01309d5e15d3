"""Latency on devices in a report: which runs a picture may compare, and the words about the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from slimasr.report.pictures.picture import numbered
from slimasr.report.records import Run, Study
from slimasr.results.device import LatencyDeviceEntry
from slimasr.supernet.cost import COST_UNITS, CostUnit


@dataclass(frozen=True)
class OnDevice:
    """The runs whose latencies hold on one device, under the same conditions.

    Attributes:
        name: end of the names of their pictures.
        cost: the latency, with the device in its title.
        runs: the runs.
        note: how well the latencies are predicted.
    """

    name: str
    cost: CostUnit
    runs: tuple[Run, ...]
    note: str


def devices_of(runs: Sequence[Run]) -> list[OnDevice]:
    """Group the runs that have latencies by device, since those of different devices are not to be compared."""
    groups: dict[str, list[tuple[Run, LatencyDeviceEntry]]] = {}
    for run in runs:
        if run.latency_device is not None:
            groups.setdefault(run.latency_device.conditions, []).append((run, run.latency_device))
    found: list[OnDevice] = []
    for conditions, members in groups.items():
        cost = COST_UNITS["latency"]
        titled = replace(cost, title=f"latency of the encoder on {conditions}")
        errors = dict.fromkeys(f"Latency: {device.error}." for _, device in members)
        name = numbered(cost.cost, len(found))
        found.append(OnDevice(name, titled, tuple(run for run, _ in members), " ".join(errors)))
    return found


def latency_notes(study: Study) -> list[str]:
    """Return the notes of a table: on which devices latencies hold, and how well they are predicted."""
    devices = {run.name: run.latency_device for run in study.runs if run.latency_device is not None}
    several = len({device.conditions for device in devices.values()}) > 1
    notes = []
    for name, device in devices.items():
        of = f" of {name}" if several else ""
        notes.append(f"Device latency{of}: the encoder on {device.conditions}, for one utterance; {device.error}.")
    # Runs of one device have one note.
    return list(dict.fromkeys(notes))
