"""``kill -9`` of an export: the bundle that was there is whole, and there is no half one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slimasr.export.device import open_bundle, verify
from tests.search.untrained import make_data, make_experiment
from tests.tiny import encoder_config

PROGRAM = "from slimasr.cli.export import main; main()"
LONGEST = 300.0
"""Seconds until an export has begun on a machine that does much else."""


def test_a_killed_export_leaves_the_bundle_that_was_there(tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra export is not installed")
    from tests.export.tiny_bundle import make_bundle

    exp = make_experiment(tmp_path / "exp", make_data(tmp_path), [0.5, 1.0], encoder=encoder_config(num_layers=1))
    out = make_bundle(tmp_path / "bundles" / "bundle")
    before = contents(out)
    command = [sys.executable, "-c", PROGRAM, str(exp), "--out", str(out), "--subnet", "all"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        partial = wait_for_partial(out, process)
    finally:
        # The graphs take seconds from here on.
        process.kill()
        _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors
    # A killed process cannot tidy up; the next export to the same folder does.
    assert partial.is_dir()
    assert contents(out) == before and verify(open_bundle(out)) == (0, [])
    assert [path.name for path in out.parent.iterdir() if not path.name.startswith(".")] == ["bundle"]


def wait_for_partial(out: Path, process: subprocess.Popen[bytes]) -> Path:
    """Wait until an export writes beside its place."""
    end = time.monotonic() + LONGEST
    while time.monotonic() < end and process.poll() is None:
        for path in out.parent.glob(f".{out.name}.*.partial"):
            return path
        time.sleep(0.02)
    raise AssertionError("the export has not begun, or is over")


def contents(folder: Path) -> dict[str, bytes]:
    """Name of a file -> its content."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
