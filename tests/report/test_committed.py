"""The committed RESULTS*.md have the figures of the results*.json beside them, in all formats ever written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(ROOT.glob("egs/*/results*.json"))


def page_of(path: Path) -> str:
    return path.with_name(f"{path.stem.replace('results', 'RESULTS')}.md").read_text(encoding="utf-8")


def measured(data: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Experiment, set and WER entry of every decoded subnet and slice."""
    for name, entry in data["experiments"].items():
        for record in [*entry["subnets"].values(), *entry.get("slices", {}).values()]:
            for set_name, wer in record.get("wer", {}).items():
                yield name, set_name, wer


def test_there_are_files_of_every_format() -> None:
    entries = [json.loads(path.read_text(encoding="utf-8")) for path in FILES]
    runs = [run for entry in entries for run in entry["experiments"].values()]
    assert len(FILES) >= 8
    assert {"utterances" in entry for entry in entries} == {True, False}
    assert {"config" in run for run in runs} == {True, False}
    assert {"candidates" in run for run in runs} == {True, False}
    assert {"model" in run for run in runs} == {True, False}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_committed_pages_have_all_figures_and_no_row_in_bold(path: Path) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    rows = [line for line in page_of(path).splitlines() if line.startswith("|")]
    for name, set_name, wer in measured(data):
        figure = f"{wer['wer']:.2f}"
        if wer["ci95"] is not None:
            low, high = wer["ci95"]
            figure += f" [{low:.2f}, {high:.2f}]"
        assert any(row.startswith(f"| {name} |") and figure in row for row in rows), (name, set_name)
    for name, entry in data["experiments"].items():
        front = {item["id"] for item in entry.get("front", ())} if not entry.get("separate_of") else set()
        # Pages name learnt subnets by their budgets, max apart.
        budgets = {item["id"]: item["name"] for item in entry.get("learnt", ()) if item["budget"] is not None}
        marked = [row for row in rows if row.startswith(f"| {name} |") and "| * |" in row]
        assert {row.split(" | ")[1] for row in marked} == {budgets.get(i, i) for i in front & entry["subnets"].keys()}
    separate = {entry["role"] for entry in data["experiments"].values() if entry.get("separate_of")}
    roles = {entry["role"] for entry in data["experiments"].values()}
    systems = {entry["a"]["role"] for entry in data["comparisons"]}
    for comparison in (entry for entry in data["comparisons"] if entry["b"]["role"] in separate):
        low, high = comparison["ci95"]
        difference = f"{comparison['delta']:+.2f} [{low:+.2f}, {high:+.2f}]"
        if comparison["a"]["role"] in separate | (systems - roles):
            # Two kinds of separate models, and models of several languages as one system, are compared by a claim
            # alone, in its evidence.
            assert f"difference {difference}" in page_of(path)
            continue
        assert any(f"| {comparison['a']['subnet']} |" in row and difference in row for row in rows)
    assert not [row for row in rows if "**" in row]


def test_the_tool_finds_nothing_to_write() -> None:
    script = ROOT / "tools" / "results_md.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
