"""Reports through the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

from typer.testing import CliRunner, Result

from slimasr.cli.common import command_app
from slimasr.cli.report import run
from tests.report.made_up import write_experiment
from tests.report.made_up_todm import write_todm


def report(*arguments: object) -> Result:
    return CliRunner().invoke(command_app(run), list(map(str, arguments)))


def test_all_outputs_of_one_call(tmp_path: Path) -> None:
    joint = write_experiment(tmp_path / "exp" / "joint", {1.0: 0.1, 0.5: 0.2})
    alone = write_experiment(tmp_path / "exp" / "alone", {0.5: 0.3}, separate_of=0.5)
    page, merged, text = (tmp_path / name for name in ("report.html", "results.json", "RESULTS.md"))
    result = report(joint, alone, "--out", page, "--json", merged, "--results-md", text)
    assert result.exit_code == 0, result.output
    assert f"wrote {page}" in result.output
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert set(json.loads(merged.read_text())["experiments"]) == {"joint", "alone"}
    assert "Generated from [results.json](results.json)" in text.read_text(encoding="utf-8")
    assert (tmp_path / "report-wer-params.png").exists()


def test_claims_are_shown_where_they_are_asked_for(tmp_path: Path) -> None:
    joint = write_experiment(tmp_path / "exp" / "joint", {1.0: 0.1, 0.5: 0.2})
    page, merged, text = (tmp_path / name for name in ("report.html", "results.json", "RESULTS.md"))
    arguments = (joint, "--out", page, "--json", merged, "--results-md", text)
    assert report(*arguments).exit_code == 0
    measured = merged.read_text(encoding="utf-8")
    for path in (page, text):
        assert not re.search(r"not tested|<h2>Claims|## Claims|\| C1", path.read_text(encoding="utf-8")), path
    assert report(*arguments, "--claims").exit_code == 0
    assert merged.read_text(encoding="utf-8") == measured
    assert "<h2>Claims</h2>" in page.read_text(encoding="utf-8")
    assert "| C1.2 | WER falls monotonically" in text.read_text(encoding="utf-8")


def test_the_table_on_the_terminal_says_what_its_star_means(tmp_path: Path) -> None:
    folder = write_todm(tmp_path / "exp" / "todm", num_candidates=10)
    output = report(folder, "--out", tmp_path / "report.html").output
    front = json.loads((folder / "search" / "front.json").read_text(encoding="utf-8"))["front"]
    marked = [line for line in output.splitlines() if "  *  " in line]
    assert [item["id"] in "".join(marked) for item in front] == [True] * len(marked)
    assert "* = on the Pareto front of its experiment" in output
    assert "bold" not in output.lower()


def test_untrained_folder_names_the_stage(tmp_path: Path) -> None:
    (tmp_path / "exp").mkdir()
    result = report(tmp_path / "exp", "--out", tmp_path / "report.html")
    assert result.exit_code == 1
    assert "run stage 4 (slimasr-train) first" in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_damaged_results_are_named(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "one", {1.0: 0.1})
    (folder / "results.json").write_text('{"subnets": ')
    result = report(folder, "--out", tmp_path / "report.html")
    assert result.exit_code == 1
    assert "results.json: not valid JSON" in result.output


def test_results_md_needs_its_source(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "one", {1.0: 0.1})
    assert "--results-md: needs --json" in report(folder, "--out", "x.html", "--results-md", "R.md").output
    assert "nothing to write" in report(folder).output
