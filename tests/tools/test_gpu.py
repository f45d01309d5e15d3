"""The benchmark for GPUs, which runs small on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parent.parent.parent / "tools" / "bench" / "gpu.sh"


def lines_of(*arguments: str) -> list[dict]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [str(SCRIPT), "--device", "cpu", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_part_runs_small_on_a_cpu() -> None:
    lines = {line["name"]: line for line in lines_of()}
    for method in ("separate", "slimmable", "sandwich"):
        assert lines[f"waits for the device per step, {method} tiny"]["target"] == 1
        for precision in ("float32", "bf16"):
            step = lines[f"step, {method} tiny {precision}"]
            assert 0.0 < step["share_of_products"] < 1.0
    # Four widths have more work than one, and the sandwich's parts are smaller than the whole.
    gflop = {method: lines[f"step, {method} tiny float32"]["gflop"] for method in ("separate", "slimmable", "sandwich")}
    assert gflop["separate"] < gflop["sandwich"] < 4 * gflop["separate"]
    assert gflop["separate"] < gflop["slimmable"] < 4 * gflop["separate"]
    for compared in ("AdamW, fused against foreach, tiny, seconds", "step, two processes against one, seconds"):
        assert lines[compared]["ratio"] > 0.0
    assert lines["AN4 slimmable, real batches"]["skipped"] == "no folder with data"
    assert not any("failed" in line for line in lines.values())


def test_nothing_begins_without_time() -> None:
    lines = lines_of("--seconds", "0", "--parts", "waits")
    assert [line["skipped"] for line in lines] == ["no time left"] * 3
