"""The latency of subnets on the device of a profile, as a cost of the search."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.architecture import architecture_digest
from slimasr.results.device import LatencyDeviceEntry, threads_in_words
from slimasr.results.profile import DeviceProfile, Precision, ProfileRow, read_profile
from slimasr.search.latency.cover import uncovered
from slimasr.search.latency.fit import Measured, fit, leave_one_out, predict
from slimasr.search.latency.terms import TermTable
from slimasr.supernet.cost import COST_UNITS
from slimasr.supernet.subnet import Subnet

LATENCY = COST_UNITS["latency"].cost
INEXACT = 10.0
"""Threshold of the mean prediction error in percent; above it, a note tells the user to profile again."""
MOST_NAMED = 6
"""An error message names so many choices at most."""


@dataclass(frozen=True)
class LatencyOptions:
    """Which measurements of a device a search is to predict from.

    Attributes:
        profile: the profile that ``run.py profile --json`` has written.
        precision: precision of the encoder; None = int8 if the search evaluates int8 weights, else float, or the only
            one that the profile holds.
        threads: threads of the encoder; None = the fewest in the profile.
    """

    profile: Path
    precision: Precision | None = None
    threads: int | None = None


@dataclass(frozen=True)
class DeviceLatency:
    """The latency of every subnet of a search space on one device.

    Attributes:
        table: the terms of subnets.
        times: the time of every term in milliseconds.
        device: what results.json says of the device and the error.
        notes: what the user should know about the profile.
    """

    table: TermTable
    times: Mapping[str, float]
    device: LatencyDeviceEntry
    notes: tuple[str, ...] = ()

    def costs(self, subnet: Subnet) -> dict[str, float]:
        """Return the latency of a subnet of the space, in milliseconds, as one of its costs."""
        return {LATENCY: predict(self.times, self.table.of_subnet(subnet))}

    @property
    def in_words(self) -> str:
        """The device, the conditions, and the error on subnets left out, in one line."""
        return f"latency of the encoder on {self.device.conditions}: {self.device.error}"


def terms_of_experiment(experiment: Experiment) -> TermTable:
    """Return the terms of an experiment's subnets. Raises as `TermTable.of`."""
    return TermTable.of(experiment.space, experiment.config.model.encoder.layer_units)


def device_latency(options: LatencyOptions, experiment: Experiment) -> DeviceLatency:
    """Fit the model of an experiment's latency to a profile.

    Raises:
        UserError: the profile cannot be used (see `read_profile`), is one of another model, does not hold the precision
            or the number of threads, or leaves choices of the search space open; the message names them.
    """
    table = terms_of_experiment(experiment)
    profile = profile_of(options.profile, experiment)
    rows = chosen_rows(profile, options, experiment.config.search.int8)
    inside = [row for row in rows if row.subnet in experiment.space]
    if not inside:
        raise UserError(f"{options.profile}: holds no subnet of the search space of {experiment.dir}")
    notes = []
    if len(inside) < len(rows):
        outside = len(rows) - len(inside)
        notes.append(f"{options.profile}: {outside} of {len(rows)} rows are of subnets outside of the search space")
    subnets = [experiment.space.canonical(row.subnet) for row in inside]
    missing = uncovered(table, subnets)
    if missing:
        raise _not_covered(options.profile, missing, experiment.dir)
    found = _fitted(table, profile, inside, subnets)
    if (found.device.mean_error or 0.0) > INEXACT:
        notes.append(f"{options.profile}: predictions are inexact; profile again while the device does nothing else")
    return replace(found, notes=tuple(notes))


def profile_of(path: Path, experiment: Experiment) -> DeviceProfile:
    """Read a profile of an experiment's model.

    Raises:
        UserError: the profile cannot be read (see `read_profile`), or is one of another model.
    """
    profile = read_profile(path)
    if profile.model.architecture != architecture_digest(experiment):
        raise UserError(
            f"{path}: profiles another model ({profile.model.name or 'without a name'}) than that of "
            f"{experiment.dir}: sizes, search space or vocabulary differ; export and profile this experiment"
        )
    return profile


def chosen_rows(profile: DeviceProfile, options: LatencyOptions, int8: bool) -> list[ProfileRow]:
    """Return the rows of one precision and number of threads.

    Args:
        profile: the profile.
        options: what the user has asked for.
        int8: whether the search evaluates int8 weights.

    Raises:
        UserError: there are none; the message says what the profile holds.
    """
    timed = [row for row in profile.rows if row.encoder_ms is not None]
    held = sorted({(row.precision, row.threads) for row in timed})
    if not held:
        raise UserError(f"{options.profile}: holds no time of an encoder; {DeviceProfile.ADVICE}")
    precisions = {precision for precision, _ in held}
    preferred: Precision = "int8" if int8 else "float"
    precision = options.precision or (preferred if preferred in precisions else held[0][0])
    counts = [threads for found, threads in held if found == precision]
    threads = options.threads if options.threads is not None else min(counts, default=0)
    found = [row for row in timed if (row.precision, row.threads) == (precision, threads)]
    if not found:
        known = ", ".join(f"{precision} on {threads_in_words(threads)}" for precision, threads in held)
        asked = precision if options.threads is None else f"{precision} on {threads_in_words(threads)}"
        raise UserError(
            f"{options.profile}: holds no times of {asked}, only {known}: "
            "choose by --latency-precision and --latency-threads"
        )
    return found


def _fitted(
    table: TermTable, profile: DeviceProfile, rows: Sequence[ProfileRow], subnets: Sequence[Subnet]
) -> DeviceLatency:
    measured = [
        Measured(subnet.id, table.of_subnet(subnet), float(row.encoder_ms or 0.0))
        for subnet, row in zip(subnets, rows, strict=True)
    ]
    errors = [100 * item.error for item in leave_one_out(measured)]
    content = json.dumps([profile.to_dict(), rows[0].precision, rows[0].threads], sort_keys=True)
    machine = profile.machine
    device = LatencyDeviceEntry(
        name=machine.name,
        processor=machine.processor,
        system=machine.system,
        python=machine.python,
        onnxruntime=machine.onnxruntime,
        precision=rows[0].precision,
        threads=rows[0].threads,
        seconds=profile.audio.seconds,
        chunk_frames=None if profile.streaming is None else profile.streaming.chunk_frames,
        subnets=len({item.name for item in measured}),
        left_out=len(errors),
        mean_error=sum(errors) / len(errors) if errors else None,
        largest_error=max(errors, default=None),
        profile=hashlib.sha256(content.encode()).hexdigest()[:16],
    )
    return DeviceLatency(table, fit(measured), device)


def _not_covered(profile: Path, missing: Sequence[str], exp: Path) -> UserError:
    shown = ", ".join(missing[:MOST_NAMED])
    more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
    advice = f"slimasr-search {exp} --latency {profile} --latency-plan lists the subnets to export and profile"
    return UserError(f"{profile}: does not cover the search space: {shown}{more}; {advice}")
