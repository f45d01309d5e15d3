"""The owner of a lock, and whether it may still be running."""

from __future__ import annotations

import getpass
import json
import os
import platform
import shlex
import sys
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from slimasr.locking.liveness import has_ended, is_here, process_identity

HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 600.0
"""Seconds without a heartbeat after which an owner on another machine loses its lock."""
LONGEST_COMMAND = 160
"""A message quotes at most this many characters of a command line."""


@dataclass(frozen=True)
class Owner:
    """The owner of a lock, as recorded in the lock file.

    Attributes:
        purpose: the command or the kind of work, in words.
        command: the command line.
        since: when the lock was taken, in the local time of its machine.
        identity: see `slimasr.locking.liveness.process_identity`.
        token: unique to this lock.
    """

    purpose: str
    command: str
    user: str
    host: str
    pid: int
    since: str
    identity: str
    token: str

    @classmethod
    def here(cls, purpose: str) -> Owner:
        """This process as the owner of a new lock."""
        return cls(
            purpose=purpose,
            command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            user=_user(),
            host=platform.node(),
            pid=os.getpid(),
            since=datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
            identity=process_identity(),
            token=uuid.uuid4().hex,
        )

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """Parse the owner in a lock file; None if the file is damaged."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    def to_json(self) -> str:
        """The content of the lock file."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @property
    def is_here(self) -> bool:
        """Whether the owner is or was a process on this machine since its last boot."""
        return is_here(self.identity)

    def why_gone(self, age: float) -> str | None:
        """Why the owner is known to be gone; None while it may be running.

        Args:
            age: seconds since its last heartbeat, by the clock of the file system.
        """
        if has_ended(self.identity):
            return "which has ended"
        if self.is_here:
            return None
        # The same name but another boot: an owner whose last heartbeat is older than the present boot ended with the
        # earlier one. At least three heartbeats must be missing, in case another machine has this name.
        if self.host == platform.node() and age > max(3 * HEARTBEAT_SECONDS, _uptime()):
            return "which ended when this machine was restarted"
        return None

    def __str__(self) -> str:
        command = self.command if len(self.command) <= LONGEST_COMMAND else f"{self.command[:LONGEST_COMMAND]}..."
        return f"{self.purpose} (process {self.pid} on {self.host}, user {self.user}, since {self.since}: {command})"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a user id without a name.
        return str(os.getuid())


def _uptime() -> float:
    """Seconds since this machine was started; infinite if the system does not report it."""
    # Unlike CLOCK_MONOTONIC, it includes the time in which the machine was suspended.
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return float("inf") if clock is None else time.clock_gettime(clock)
