"""The choice of the page, whose functions node runs without a browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from slimasr.export.web import PAGE


def row(name: str, rtf: float, params: int, **wer: float) -> dict[str, Any]:
    return {"size": {"id": name, "params": params, "float": {"wer": wer}}, "precision": "float", "rtf": rtf, "bytes": 1}


def test_sizes_that_were_measured_on_another_set_are_left_out(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    shutil.copy(PAGE / "web" / "measure.js", tmp_path / "measure.mjs")
    rows = [row("fr", 0.5, 9, **{"dev-fr": 9.0}), row("nl", 0.1, 8, **{"dev-nl": 5.0})]
    limits = [{"rtf": 0.2, "megabytes": 1, "set": name} for name in ("dev-fr", "dev-nl", None)]
    script = (
        f'import {{ choose }} from "{(tmp_path / "measure.mjs").as_uri()}";'
        f"const found = {json.dumps(limits)}.map((limits) => choose({json.dumps(rows)}, limits));"
        "console.log(JSON.stringify(found.map(({ row, misses }) => [row.size.id, misses.length])));"
    )
    done = subprocess.run([node, "--input-type=module", "-e", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["fr", 1], ["nl", 0], ["nl", 0]]
