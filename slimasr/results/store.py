"""Read and change an experiment's results.json."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slimasr.locking import file_lock
from slimasr.results.entry import merged
from slimasr.results.schema import Results


def read_results(exp: Path) -> Results:
    """Return what an experiment's results.json holds, an empty record if there is no file.

    Raises:
        UserError: the file is damaged (the message names the key), or a newer version wrote it.
    """
    return Results.read(exp) or Results()


def update_results(exp: Path, changes: Results) -> Results:
    """Write what ``changes`` sets into results.json, mapping by mapping, and return the new content.

    Everything else in the file stays, including keys that this version does not know. Raises as `change_results`.
    """
    return change_results(exp, lambda results: merged(results, changes))


def change_results(exp: Path, change: Callable[[Results], Results]) -> Results:
    """Read results.json, write what ``change`` makes of it, and return that. Other processes wait in the meantime.

    Args:
        exp: the experiment folder.
        change: returns new content, or its argument itself if there is nothing to write.

    Raises:
        UserError: the file is damaged, cannot be written, or is held by another process for too long.
    """
    # Reading is inside the lock as well: two processes that read the same content would lose one of their changes.
    with file_lock(exp / Results.PLACE):
        before = read_results(exp)
        after = change(before)
        # Compared by identity: a file that nobody changes keeps its time, too.
        if after is not before:
            after.write(exp)
    return after
