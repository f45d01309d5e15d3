"""A process that takes locks: ``python -m tests.locking.holder hold|once|count PATH [NUMBER]``.

``hold`` prints ``held``, keeps the lock until a line comes in, and prints ``released``; ``once`` prints whether it got
the lock, and keeps it until its input is closed; ``count`` adds 1 to the number in a file, many times.
"""

from __future__ import annotations

import sys
from pathlib import Path

from slimasr.errors import UserError, one_line
from slimasr.locking import file_lock, folder_lock


def hold(path: Path) -> None:
    """Take a lock, and keep it until asked to release it."""
    with folder_lock(path, "slimasr-test") as lock:
        print("held", flush=True)
        sys.stdin.readline()
        lock.verify()
    print("released", flush=True)


def once(path: Path) -> None:
    """Compete for a lock when a line comes in."""
    print("ready", flush=True)
    sys.stdin.readline()
    with folder_lock(path, "slimasr-test"):
        print("won", flush=True)
        sys.stdin.read()


def count(path: Path, number: int) -> None:
    """Read, add, write."""
    for _ in range(number):
        with file_lock(path):
            value = int(path.read_text())
            path.write_text(str(value + 1))


if __name__ == "__main__":
    action, path = sys.argv[1], Path(sys.argv[2])
    try:
        if action == "hold":
            hold(path)
        elif action == "once":
            once(path)
        else:
            count(path, int(sys.argv[3]))
    except UserError as error:
        print(f"refused: {one_line(error)}", flush=True)
        sys.exit(1)
