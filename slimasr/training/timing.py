"""The time of a run by its parts: data, forward, backward, optimiser, validation, checkpoints, and the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, get_args

Part = Literal["data", "forward", "backward", "optimiser", "validation", "checkpoint", "rest"]
PARTS: tuple[Part, ...] = get_args(Part)


class Clock:
    """Adds up the time of each part of a run, so that every moment counts for exactly one part.

    This is the innermost part that is running, or ``rest`` outside of all parts. The clock never waits for a device: on
    a GPU, the part that needs a result gets the time of the work queued before it.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Start the clock.

        Args:
            now: returns the time in seconds.
        """
        self._now = now
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._running: Part = "rest"
        self._since = now()
        # Whether the running part also gets the time of parts inside it.
        self._closed = False

    @contextmanager
    def part(self, name: Part, *, whole: bool = False) -> Iterator[None]:
        """Count the time of the block for a part.

        Args:
            name: the part.
            whole: whether parts inside the block count for this part as well.
        """
        if self._closed:
            yield
            return
        outer = self._running
        self._switch(name)
        self._closed = whole
        try:
            yield
        finally:
            self._closed = False
            self._switch(outer)

    def take(self) -> dict[str, float]:
        """Return the seconds of each part since the last call, or since the clock was started."""
        self._switch(self._running)
        taken: dict[str, float] = {part: self._seconds[part] for part in PARTS}
        self._seconds = dict.fromkeys(PARTS, 0.0)
        return taken

    def _switch(self, name: Part) -> None:
        """Give the time since the last switch to the running part; from now on, another one runs."""
        now = self._now()
        self._seconds[self._running] += now - self._since
        self._since = now
        self._running = name


def describe_seconds(seconds: Mapping[str, float]) -> str:
    """Return the time of each part in seconds and percent, in one line."""
    total = sum(seconds.values())
    parts = []
    for name, value in seconds.items():
        percent = 100.0 * value / total if total else 0.0
        parts.append(f"{name} {value:.1f} s ({percent:.1f} %)")
    return f"{total:.1f} s of training: {', '.join(parts)}"
