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

    chunk_frames: Whole | None = None
    """Feature frames of the chunks that the encoder was fed; null = whole utterances. Entries of older versions lack
    it."""

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

    @property
    def conditions(self) -> str:
        """The device and how it was measured, in words: ``phone (float, 1 thread, 10 s of audio)``."""
        name = self.name or self.processor or "an unnamed device"
        audio = f", {sum(self.seconds) / len(self.seconds):.3g} s of audio" if self.seconds else ""
        chunks = f" in chunks of {self.chunk_frames} frames" if self.chunk_frames else ""
        return f"{name} ({self.precision}, {threads_in_words(self.threads)}{audio}{chunks})"

    @property
    def error(self) -> str:
        """How well subnets that were left out are predicted, in words."""
        if self.mean_error is None or self.largest_error is None:
            return f"every one of {self.subnets} subnets measured, none predicted"
        return (
            f"{self.subnets} subnets measured; {self.left_out} of them predicted from the others within "
            f"{self.largest_error:.1f} %, {self.mean_error:.1f} % on average"
        )


def threads_in_words(number: int) -> str:
    """Return a number of threads with the right form of the word."""
    return "1 thread" if number == 1 else f"{number} threads"
