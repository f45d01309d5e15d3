"""Whether the process that claimed something is still there."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


def process_identity() -> str:
    """``<machine>|<process id>|<start time>`` of this process, the same for no other one."""
    pid = os.getpid()
    return f"{_machine()}|{pid}|{_start_time(pid)}"


def is_here(identity: str) -> bool:
    """Whether a process is one of this machine."""
    return identity.rsplit("|", 2)[0] == _machine()


def has_ended(identity: str) -> bool:
    """Whether a process is known to have ended. Of processes on other machines nothing is known."""
    if not is_here(identity):
        return False
    _, pid, start = identity.rsplit("|", 2)
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return _start_time(int(pid)) != start


def _machine() -> str:
    """This boot of this machine, and the container whose process ids these are."""
    if not _BOOT.exists():
        return platform.node()
    return f"{_BOOT.read_text().strip()}/{os.readlink(_NAMESPACE)}"


def _start_time(pid: int) -> str:
    """Clock ticks from boot to the start of a process; a zombie has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
