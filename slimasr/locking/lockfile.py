"""The lock file, which only one process can create and only a process that has checked its content removes.

A lock file appears with its whole content: it is written under another name and linked into place. ``link`` is atomic
on local disks and on NFS, where other ways of creating a file exclusively are not. The time of its last change is its
owner's last heartbeat. Heartbeats are compared with the time of a file that was written just now, because the clocks
of machines differ while a file system has only one.

To remove a lock, a process first takes a second lock, the guard, which is named after the token of the first; then it
checks again that the lock is still the one that it wants to remove. Thus no process removes a lock that another one
acquired in the meantime. Guards are held for milliseconds; the same rules apply to a guard whose owner was killed.
"""

from __future__ import annotations

import errno
import os
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from slimasr.errors import UserError
from slimasr.locking.owner import STALE_SECONDS, Owner

SHORT_STALE_SECONDS = 60.0
"""Seconds without a heartbeat after which a lock that is held briefly, or a guard, is taken over."""
GUARD_PATIENCE = 5.0
SHORTEST_PAUSE = 0.01
LONGEST_PAUSE = 0.5
# Errors of file systems that have no hard links.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@dataclass(frozen=True)
class Found:
    """An existing lock file.

    Attributes:
        owner: the owner; None if the file is damaged, for example after a crash of its machine.
        token: the owner's token; for a damaged file, a value that identifies this file.
        renewed: time of the last heartbeat, by the clock of the file system.
    """

    owner: Owner | None
    token: str
    renewed: float

    def why_gone(self, now: float, stale_seconds: float) -> str | None:
        """Why the owner is considered gone; None while it must be considered running."""
        age = now - self.renewed
        reason = None if self.owner is None else self.owner.why_gone(age)
        # An owner on this machine that has not ended is running, however old its heartbeat: it may be suspended.
        if reason is None and age > stale_seconds and not (self.owner and self.owner.is_here):
            return f"which has had no heartbeat for {age / 60:.0f} minutes"
        return reason


class HeldError(UserError):
    """Another process holds the lock."""

    def __init__(self, path: Path, found: Found, now: float) -> None:
        self.path = path
        self.found = found
        self.age = max(0.0, now - found.renewed)
        super().__init__(f"{path}: held by {found.owner or 'an unknown process'}")


def take(path: Path, owner: Owner, stale_seconds: float = STALE_SECONDS) -> str | None:
    """Create the lock file, or replace one whose owner is gone.

    Returns:
        The previous owner and why it was replaced; None if the lock was free.

    Raises:
        HeldError: another process holds it.
        OSError: it cannot be written.
    """
    deadline = time.monotonic() + GUARD_PATIENCE
    note = None
    while True:
        now = _create(path, owner)
        if now is None:
            return note
        found = read(path)
        if found is None:
            # It was released in the meantime.
            continue
        reason = found.why_gone(now, stale_seconds)
        if reason is None or time.monotonic() > deadline:
            raise HeldError(path, found, now)
        if remove(path, found.token, owner):
            note = f"{path}: taken over from {found.owner or 'an unknown process'}, {reason}"
        else:
            # Another process is removing the same stale lock.
            time.sleep(SHORTEST_PAUSE)


def read(path: Path) -> Found | None:
    """Read the present lock file; None if there is none."""
    try:
        # The time and the content are those of one open file, even if the name is replaced meanwhile.
        with open(path, encoding="utf-8", errors="replace") as file:
            status = os.fstat(file.fileno())
            owner = Owner.parse(file.read())
    except FileNotFoundError:
        return None
    token = f"{status.st_ino:x}-{status.st_mtime_ns:x}" if owner is None else owner.token
    return Found(owner, token, status.st_mtime)


def remove(path: Path, token: str, remover: Owner) -> bool:
    """Remove the lock file if it is still the one with this token; False where another process removes it."""
    # The guard belongs to this very lock: the guard of a later lock has another name.
    guard = path.with_name(f"{path.name}.{token[:8]}")
    holder = replace(remover, token=uuid.uuid4().hex)
    try:
        take(guard, holder, SHORT_STALE_SECONDS)
    except HeldError:
        return False
    try:
        found = read(path)
        # Checked again while the guard is held: another process may have replaced the lock before.
        if found is not None and found.token == token:
            path.unlink()
    finally:
        with suppress(FileNotFoundError):
            guard.unlink()
    return True


def is_mine(path: Path, owner: Owner) -> bool:
    """Whether this owner holds the lock; a lock file that was removed and not replaced is created again.

    Raises:
        OSError: the folder was removed, or the file system does not respond.
    """
    found = read(path)
    if found is None:
        # Somebody deleted the file, but nobody has taken the lock.
        if _create(path, owner) is None:
            return True
        found = read(path)
    return found is not None and found.token == owner.token


def _create(path: Path, owner: Owner) -> float | None:
    """Create the lock file and return None; if one exists, return the present time by the clock of the file system."""
    content = owner.to_json().encode()
    temporary = path.with_name(f".{path.name}.{owner.token}.tmp")
    try:
        now = _write_new(temporary, content)
        try:
            os.link(temporary, path)
        except OSError as error:
            # NFS repeats a call whose response was lost; the first call made the link.
            if os.stat(temporary).st_nlink == 2:
                return None
            if isinstance(error, FileExistsError):
                return now
            if error.errno not in _NO_LINKS:
                raise
            return _create_without_link(path, content, now)
        return None
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _create_without_link(path: Path, content: bytes, now: float) -> float | None:
    """The same on file systems without hard links, where the file is briefly empty."""
    try:
        _write_new(path, content)
    except FileExistsError:
        return now
    return None


def _write_new(path: Path, content: bytes) -> float:
    """Write a file that must not exist yet, and return the time of its last change."""
    with open(path, "xb") as file:
        file.write(content)
    # After closing, because before that a network file system may report the time of this machine.
    return path.stat().st_mtime
