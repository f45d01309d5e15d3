"""The Python with an old onnxruntime in which tests run bundles."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from slimasr.export import device

VARIABLE = "SLIMASR_OLD_ONNXRUNTIME"


def old_python() -> str:
    """Return the path of the Python; the test is skipped where there is none."""
    python = os.environ.get(VARIABLE)
    if not python or not Path(python).is_file():
        pytest.skip(f"${VARIABLE} names no Python with an old onnxruntime; tools/old_runtime.sh makes one")
    return python


def run_old(*words: object) -> str:
    """Run the program of bundles in the old runtime; return what it prints."""
    command = [old_python(), device.__file__, *map(str, words)]
    # What this process finds by PYTHONPATH is made for another Python.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def transcribed(bundle: Path, wav: Path, *options: str) -> list[dict[str, Any]]:
    """Recognise a recording in the old runtime: text, tokens and frames."""
    found = wav.with_suffix(".json")
    run_old("transcribe", "--bundle", bundle, wav, "--json", found, *options)
    return json.loads(found.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
