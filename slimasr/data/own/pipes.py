"""Runs the shell commands of lists, whose output is audio, and keeps it in files."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from slimasr.data.corpora.base import ListedUtterance
from slimasr.errors import UserError
from slimasr.files import write_atomic
from slimasr.progress import Progress

NUM_THREADS = 4


def run_commands(utterances: Sequence[ListedUtterance], progress: Progress) -> None:
    """Write the output of the commands of utterances; files that are there are kept.

    Raises:
        UserError: a command fails or writes nothing.
    """
    # A recording may hold many utterances.
    missing = {item.audio: item for item in utterances if item.command and not item.audio.is_file()}
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for _ in progress(pool.map(_run, missing.values()), len(missing), "commands"):
            pass


def _run(utterance: ListedUtterance) -> None:
    done = subprocess.run(utterance.command, shell=True, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = f"failed with status {done.returncode}" if done.returncode else "has no output"
        raise UserError(f"{utterance.source}: the command {utterance.command!r} {why}: {said[-1] if said else ''}")
    write_atomic(utterance.audio, done.stdout)
