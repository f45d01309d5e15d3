"""Holding a lock: it is acquired at the start of a block, renewed by a thread, and released at the end of the block.

`folder_lock` is for work of minutes or days and immediately refuses a second owner. `file_lock` is for reading,
changing and writing a file, and waits. A process that is killed does not release its lock: the next one on the same
machine detects that it has ended and takes over; one on another machine takes over after `STALE_SECONDS` without a
heartbeat.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from slimasr.errors import UserError
from slimasr.locking.lockfile import (
    LONGEST_PAUSE,
    SHORT_STALE_SECONDS,
    SHORTEST_PAUSE,
    HeldError,
    is_mine,
    read,
    remove,
    take,
)
from slimasr.locking.owner import HEARTBEAT_SECONDS, STALE_SECONDS, Owner

WAIT = "wait until it has ended"
PATIENCE = 1.0
"""Seconds to wait for a process that only checks whether a lock is free."""
FILE_PATIENCE = 600.0
"""Seconds to wait for a lock that is held briefly; longer than `SHORT_STALE_SECONDS`, so that a crash is survived."""
NOTE_AFTER_SECONDS = 3.0
"""Seconds after which a waiting command reports the owner."""


class Lock:
    """A lock that this process holds.

    Attributes:
        path: the lock file.
        owner: this process.
    """

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path = path
        self.owner = owner
        self._lost = False
        # `_ended` is set by `release`; `_looking` keeps the heartbeat's thread and `verify` from looking at once.
        self._ended = threading.Event()
        self._looking = threading.Lock()
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Raise if the last heartbeat or an earlier `verify` found the lock lost. This reads no file.

        Raises:
            UserError: the lock has been deleted and taken by another process, or its folder is gone.
        """
        if not self._lost:
            return
        found = None
        with suppress(OSError):
            found = read(self.path)
        who = "its folder is gone" if found is None else f"now held by {found.owner or 'another process'}"
        raise UserError(
            f"{self.path}: the lock of this process was removed, {who}; this process stops and writes no more"
        )

    def verify(self) -> None:
        """Read the lock file, before something is written; raises as `check` does."""
        # A forked child has a copy of this object, but the lock is its parent's.
        if os.getpid() == self.owner.pid:
            self._look()
        self.check()

    def keep_alive(self) -> None:
        """Renew the lock from a thread until it is released."""
        self._thread = threading.Thread(target=self._beat, daemon=True, name=f"heartbeat {self.path.name}")
        self._thread.start()

    def release(self) -> None:
        """Remove the lock file, except in child processes of the owner, or if the lock was lost."""
        if os.getpid() != self.owner.pid or self._ended.is_set():
            return
        self._ended.set()
        # A heartbeat after the removal would create the file again.
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5.0)
        try:
            remove(self.path, self.owner.token, self.owner)
        except OSError:
            # There is no space for the guard, or the folder was removed.
            with suppress(OSError):
                found = read(self.path)
                if found is not None and found.owner == self.owner:
                    self.path.unlink()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            self._look()
            if self._lost:
                return
            # The next heartbeat may succeed.
            with suppress(OSError):
                os.utime(self.path)

    def _look(self) -> None:
        with self._looking:
            if self._lost or self._ended.is_set():
                return
            try:
                self._lost = not is_mine(self.path, self.owner)
            except FileNotFoundError:
                self._lost = True
            except OSError:
                # The state is unknown while the file system does not respond.
                return


@contextmanager
def folder_lock(path: Path, purpose: str, *, wait: bool = False, advice: str = WAIT) -> Iterator[Lock]:
    """Hold a lock while the block runs.

    Args:
        path: the lock file; its folder is created, and removed again if it stays empty.
        purpose: the holder, for messages, such as ``slimasr-train``.
        wait: whether to wait for another owner, with a message, instead of refusing.
        advice: what the user can do after a refusal.

    Raises:
        UserError: another process holds it (the message says who, since when, and what to do after a crash), or the
            folder cannot be written.
    """
    made = not path.parent.exists()
    owner = Owner.here(purpose)
    note = _acquire(path, owner, float("inf") if wait else PATIENCE, STALE_SECONDS, advice)
    if note is not None:
        print(f"note: {note}", file=sys.stderr, flush=True)
    lock = Lock(path, owner)
    lock.keep_alive()
    try:
        with _released_when_terminated(lock):
            yield lock
    finally:
        lock.release()
        if made and os.getpid() == owner.pid:
            # This fails if the folder is not empty.
            with suppress(OSError):
                path.parent.rmdir()


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file while it is read, changed and written; waits for others to do the same.

    Args:
        path: the file that is changed; the lock is ``.<name>.lock`` in the same folder.

    Raises:
        UserError: another process has held it for longer than `FILE_PATIENCE`, or the folder cannot be written.
    """
    owner = Owner.here(f"an update of {path.name}")
    lock = Lock(path.with_name(f".{path.name}.lock"), owner)
    _acquire(lock.path, owner, FILE_PATIENCE, SHORT_STALE_SECONDS, "run the same command again")
    lock.keep_alive()
    try:
        yield
    finally:
        lock.release()


def refuse_while_locked(path: Path, purpose: str, advice: str = WAIT) -> None:
    """Raise `UserError` if another process holds a lock; for commands that read what the holder writes."""
    if not path.exists():
        return
    owner = Owner.here(purpose)
    # Acquired and released at once: this also removes a lock whose owner is gone.
    _acquire(path, owner, PATIENCE, STALE_SECONDS, advice)
    Lock(path, owner).release()


def _acquire(path: Path, owner: Owner, patience: float, stale_seconds: float, advice: str) -> str | None:
    """Acquire the lock, trying for at most ``patience`` seconds; returns a note if it was taken over."""
    start = time.monotonic()
    pause = SHORTEST_PAUSE
    noted = False
    while True:
        try:
            # Within the loop, because a previous owner may remove the folder that it created.
            path.parent.mkdir(parents=True, exist_ok=True)
            return take(path, owner, stale_seconds)
        except HeldError as error:
            waited = time.monotonic() - start
            if waited >= patience:
                raise UserError(_refusal(error, stale_seconds, advice)) from None
            if waited > NOTE_AFTER_SECONDS and not noted:
                print(f"note: waiting for {error.found.owner or 'an unknown process'} ({path})", file=sys.stderr)
                noted = True
        except OSError as error:
            reason = f"{path.parent} is a file, not a folder" if path.parent.is_file() else error.strerror
            raise UserError(f"{path}: cannot be written ({reason}): name a folder that can be written to") from error
        time.sleep(pause)
        # Doubled up to a limit, so that many waiting processes do not burden a network disk.
        pause = min(2 * pause, LONGEST_PAUSE)


def _refusal(error: HeldError, stale_seconds: float, advice: str) -> str:
    """Describe in one line who holds the lock, and what to do."""
    owner = error.found.owner
    path = error.path.absolute()
    message = f"{error.path.parent}: in use by {owner or 'an unknown process'}; {advice}"
    # On this machine a crashed owner is noticed, so there is no need to advise about one.
    if owner is not None and owner.is_here:
        return message
    return (
        f"{message}; its last heartbeat was {error.age:.0f} s ago: if it crashed, delete {path} "
        f"(after {stale_seconds / 60:.0f} minutes without a heartbeat it is taken over)"
    )


@contextmanager
def _released_when_terminated(lock: Lock) -> Iterator[None]:
    """Release the lock also when SIGTERM ends the process, which batch systems send before they move a job."""
    # Python sets signal handlers only in the main thread; a signal that is ignored stays so.
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        yield
        return
    before = signal.getsignal(signal.SIGTERM)

    def release(number: int, frame: FrameType | None) -> None:
        lock.release()
        # The process then ends as it would have without this handler.
        signal.signal(number, before)
        signal.raise_signal(number)

    signal.signal(signal.SIGTERM, release)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
