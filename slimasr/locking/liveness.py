"""Check whether a process that claimed something is still running."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


def process_identity() -> str:
    """``<machine>|<process id>|<start time>`` of this process, which is unique."""
    pid = os.getpid()
    return f"{_machine()}|{pid}|{_start_time(pid)}"


def is_here(identity: str) -> bool:
    """Whether a process runs or ran on this machine."""
    # From the right, because a machine's name may contain the separator.
    return identity.rsplit("|", 2)[0] == _machine()


def has_ended(identity: str) -> bool:
    """Whether a process is known to have ended; nothing is known about processes on other machines."""
    if not is_here(identity):
        return False
    _, pid, start = identity.rsplit("|", 2)
    try:
        # Signal 0 only checks whether the process exists.
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        # It exists and belongs to another user.
        pass
    # Process ids are reused: a process that started at another time is another one.
    return _start_time(int(pid)) != start


def _machine() -> str:
    """Identifies this boot of this machine, and the container to which the process ids belong."""
    if not _BOOT.exists():
        return platform.node()
    return f"{_BOOT.read_text().strip()}/{os.readlink(_NAMESPACE)}"


def _start_time(pid: int) -> str:
    """Clock ticks from boot to the start of a process; a zombie counts as ended."""
    try:
        # The second field is the program's name in parentheses, which may contain spaces and parentheses itself; what
        # follows the last one starts with field 3, the state. Field 22 is the start time.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
