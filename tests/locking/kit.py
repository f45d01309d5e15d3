"""Lock files of processes that are not there."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from slimasr.locking.owner import Owner


def forge(path: Path, seconds: float = 0.0, **changes: object) -> Owner:
    """A lock of a process on another machine, whose last heartbeat was so many seconds ago."""
    owner = replace(Owner.here("slimasr-train"), identity="boot/pid:[1]|77|1", host="far", pid=77, user="ann")
    owner = replace(owner, **changes)  # type: ignore[arg-type]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(owner.to_json(), encoding="utf-8")
    set_back(path, seconds)
    return owner


def set_back(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))
