"""Whole reports of made-up experiments: what is in them, and that they need no network."""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib.image
import pytest

from slimasr.claims import PAPERS, claims_of
from slimasr.errors import UserError
from slimasr.report.collect import collect
from slimasr.report.results_md import all_tables, render_results
from slimasr.report.write import write_report
from tests.report.made_up import study_of, write_experiment, write_study
from tests.report.page import Page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], dict]:
    root = tmp_path_factory.mktemp("study")
    experiments = write_study(root / "exp")
    report, study = collect(experiments, "made up", root, PAPERS)
    written = write_report(study, root / "report.html", claims_of(study))
    return root, written, json.loads(json.dumps(report.to_dict()))


def test_page_fetches_nothing(report: tuple[Path, list[Path], dict]) -> None:
    page = Page((report[0] / "report.html").read_text(encoding="utf-8"))
    assert page.fetched == []
    assert page.styles
    assert "url(" not in page.styles
    assert "@import" not in page.styles
    assert "width=device-width" in page.viewport


def test_hover_names_every_subnet_with_its_costs(report: tuple[Path, list[Path], dict]) -> None:
    page = Page((report[0] / "report.html").read_text(encoding="utf-8"))
    first = page.figures[0]
    texts = [text for trace in first["data"] for text in trace["customdata"]]
    assert len(texts) == 3 * 4 + 4
    assert sum("separate_0.5: w0.5" in text for text in texts) == 1
    assert all("parameters" in text and "RTF" in text and "peak memory" in text for text in texts)


def test_plots_show_the_measured_figures(report: tuple[Path, list[Path], dict]) -> None:
    root, _, data = report
    page = Page((root / "report.html").read_text(encoding="utf-8"))
    trace = page.figures[0]["data"][0]
    entries = data["experiments"]["slimmable"]["subnets"].values()
    expected = sorted((e["costs"]["params"] / 1e6, e["wer"]["test"]["wer"]) for e in entries)
    assert list(zip(trace["x"], trace["y"], strict=True)) == [pytest.approx(pair) for pair in expected]
    low = [e["wer"]["test"]["ci95"][0] for e in sorted(entries, key=lambda e: e["costs"]["params"])]
    assert [y - minus for y, minus in zip(trace["y"], trace["error_y"]["arrayminus"], strict=True)] == [
        pytest.approx(value) for value in low
    ]


def test_pictures_are_images(report: tuple[Path, list[Path], dict]) -> None:
    pictures = [path for path in report[1] if path.suffix == ".png"]
    assert {p.name for p in pictures} >= {"report-wer-params.png", "report-training.png"}
    assert all(matplotlib.image.imread(p).std() > 0.01 for p in pictures)


def test_results_hold_relative_paths_only(report: tuple[Path, list[Path], dict]) -> None:
    root, _, data = report
    assert data["experiments"]["separate_1"]["dir"] == "exp/separate_1"
    assert str(root) not in json.dumps(data)


def test_results_md_says_what_results_json_says(report: tuple[Path, list[Path], dict]) -> None:
    data = report[2]
    study = study_of(data)
    text = render_results(study, "results.json", claims_of(study))
    for entry in data["experiments"].values():
        for subnet in entry["subnets"].values():
            assert f"{subnet['wer']['test']['wer']:.2f}" in text
    found = study_of(data).compare(("slimmable", "w0.25"), ("separate", "w0.25"))
    assert found is not None
    assert f"{found.delta:+.2f} [{found.low:+.2f}, {found.high:+.2f}]" in text
    verdicts = dict(re.findall(r"^\| (C1\.\d) \|.*\| ([a-z ]+) \|$", text, flags=re.MULTILINE))
    assert verdicts["C1.4"] == verdicts["C1.5"] == verdicts["C1.6"] == "held"
    assert "slimmable, shared norms" in text


def test_tables_of_markdown_are_rectangular(report: tuple[Path, list[Path], dict]) -> None:
    study = study_of(report[2])
    text = render_results(study, "results.json", claims_of(study))
    for block in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_unfinished_log_line_is_left_out(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "one", {1.0: 0.1})
    with (folder / "train_log.jsonl").open("a") as file:
        file.write('{"epoch": 31, "st')
    assert len(collect([folder], "made up", tmp_path).report.experiments["one"].curve) == 30


@pytest.mark.parametrize(("missing", "stage"), [("config.yaml", "stage 4"), ("results.json", "stage 5")])
def test_missing_pieces_name_the_stage(tmp_path: Path, missing: str, stage: str) -> None:
    folder = write_experiment(tmp_path / "one", {1.0: 0.1})
    (folder / missing).unlink()
    with pytest.raises(UserError, match=stage):
        collect([folder], "made up", tmp_path)


@pytest.mark.parametrize("name", ["exp/nothing", "nothing.json"])
def test_a_missing_path_is_named_as_it_was_given(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"{name} is missing: name experiment folders"):
        collect([write_experiment(tmp_path / "one", {1.0: 0.1}), tmp_path / name], "made up", tmp_path)


def test_names_must_differ(tmp_path: Path) -> None:
    folders = [write_experiment(tmp_path / side / "one", {1.0: 0.1}) for side in "ab"]
    with pytest.raises(UserError, match="rename"):
        collect(folders, "made up", tmp_path)


def test_time_is_shown_where_it_was_kept(tmp_path: Path, report: tuple[Path, list[Path], dict]) -> None:
    """Runs of earlier versions have not kept it."""
    assert "Training time" not in render_results(study_of(report[2]), "results.json")
    exp = write_experiment(tmp_path / "a" / "exp" / "slimmable", {1.0: 0.08, 0.5: 0.12})
    old = write_experiment(tmp_path / "a" / "exp" / "old", {1.0: 0.08, 0.5: 0.12}, seed=2)
    content = json.loads((exp / "results.json").read_text(encoding="utf-8"))
    content |= {"train_threads": 2, "train_seconds": {"data": 100, "forward": 500.5, "backward": 650.0, "rest": 0.0}}
    (exp / "results.json").write_text(json.dumps(content), encoding="utf-8")
    study = collect([exp, old], "made up", tmp_path).study
    (table,) = [table for table in all_tables(study) if table.title == "Training time"]
    assert table.columns == ("experiment", "threads", "seconds", "data", "forward", "backward", "rest")
    assert table.rows == (("slimmable", "2", "1,250.5", "8.0 %", "40.0 %", "52.0 %", "0.0 %"),)
    # A report that is rendered from its file shows the same.
    assert table.markdown() in render_results(study, "results.json")
