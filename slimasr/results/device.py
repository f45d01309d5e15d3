"""What results.json says of the device for which latencies are predicted."""

from __future__ import annotations

from slimasr.results.entry import Number, Whole
from slimasr.results.profile import MachineEntry, Precision


class LatencyDeviceEntry(MachineEntry):
    """This is the device that `slimasr-search --latency` predicts latencies for, and how well it does."""

    precision: Precision
    """Precision of the encoder: `float` or `int8`."""

    threads: Whole
    """Threads of the encoder."""

    seconds: tuple[Number, ...] = ()
    """Length in seconds of each utterance of the profile's audio."""

    subnets: Whole
    """Number of subnets in the profile from which latencies are predicted."""

    left_out: Whole = 0
    """Number of these that could be predicted from the others; 0 where every subnet of the space was measured."""

    mean_error: Number | None = None
    """Mean distance of these predictions from the measurements, in percent of the measurements; null without any."""

    largest_error: Number | None = None
    """Largest distance of these predictions, in percent of the measurement; null without any."""

    profile: str
    """Digest of the profile's content."""
