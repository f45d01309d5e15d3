"""Experiment folders as older versions left them: they are read, searched on and reported as before."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.archive import Conditions, measured_subnets, read_archive, read_candidates, read_front
from slimasr.experiment.checkpoints import fingerprint
from slimasr.report.collect import collect
from slimasr.report.results_md import render_results
from slimasr.results.schema import Results
from slimasr.results.store import update_results
from tests.report.made_up import GREEDY
from tests.report.made_up_todm import SPACE, write_todm
from tests.results.kit import results_json

CONDITIONS = Conditions("dev", False, GREEDY, "f00d")
SEARCH = ("candidates", "front", "summary")


def change(path: Path, how: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


def of_now(weights: str) -> Callable[[dict[str, Any]], None]:
    def do(content: dict[str, Any]) -> None:
        content["version"] = 1
        for entry in content["subnets"].values():
            entry["search"] |= {"weights": weights, "int8": False, "decoding": GREEDY, "data": "f00d"}
            for wer in entry["wer"].values():
                wer["data"] = "f00d"

    return do


def without_data(content: dict[str, Any]) -> None:
    for entry in content["subnets"].values():
        del entry["search"]["data"]
        for wer in entry["wer"].values():
            del wer["data"]


def without_conditions(content: dict[str, Any]) -> None:
    for entry in content["subnets"].values():
        for key in ("int8", "decoding"):
            del entry["search"][key]


def drop(*keys: str) -> Callable[[dict[str, Any]], None]:
    def do(content: dict[str, Any]) -> None:
        for key in keys:
            content.pop(key, None)

    return do


def made(folder: Path, age: int) -> Path:
    """A searched and decoded supernet.

    Args:
        folder: where to write it.
        age: 0 = as it is written now; 1 = before files had versions; 2 = before sets had fingerprints; 3 = before
            searches noted their conditions; 4 = before searches had studies.
    """
    write_todm(folder, kwh=1.0, num_candidates=12)
    (folder / "final.pt").write_bytes(b"weights")
    weights = fingerprint(folder / "final.pt")
    results = folder / "results.json"
    search = {name: folder / "search" / f"{name}.json" for name in SEARCH}
    change(results, of_now(weights))
    noted = {"version": 1, "weights": weights, "kind": "evolution", "int8": False, "decoding": GREEDY, "data": "f00d"}
    for path in search.values():
        path.write_text(json.dumps(json.loads(path.read_text()) | noted))
    if age >= 1:
        for path in (results, *search.values()):
            change(path, drop("version"))
    if age >= 2:
        change(results, without_data)
        for path in search.values():
            change(path, drop("data"))
    if age >= 3:
        change(results, without_conditions)
        for path in search.values():
            change(path, drop("kind", "int8", "decoding"))
    if age >= 4:
        change(results, drop("energy", "command", "separate_of"))
        change(search["front"], drop("weights"))
        search["candidates"].unlink()
        search["summary"].unlink()
    return folder


def opened(folder: Path) -> Experiment:
    """What the readers of a search's files need of an experiment; these folders have no model."""
    facts = {"dir": folder, "weights_digest": fingerprint(folder / "final.pt"), "space": SPACE}
    return cast(Experiment, SimpleNamespace(**facts))


@pytest.fixture(scope="module")
def of_today(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("today") / "exp" / "todm", 0)


@pytest.mark.parametrize("age", [1, 2, 3])
def test_a_search_finds_in_an_old_folder_what_it_left(age: int, tmp_path: Path, of_today: Path) -> None:
    old = made(tmp_path / "todm", age)
    expected = read_archive(opened(of_today))
    assert len(expected) > 3
    assert read_archive(opened(old)) == read_archive(opened(old), CONDITIONS) == expected
    assert read_candidates(opened(old)) == read_candidates(opened(of_today))
    assert len(read_candidates(opened(old))) > len(expected)
    assert read_front(opened(old)) == read_front(opened(of_today))
    for other in (replace(CONDITIONS, int8=True), replace(CONDITIONS, decoding="modified beam search, beam 4")):
        assert read_archive(opened(old), other) == []
    assert len(read_archive(opened(old), replace(CONDITIONS, data="beef"))) == (0 if age < 2 else len(expected))


def test_the_first_folders_have_an_archive_and_no_front_that_is_trusted(tmp_path: Path, of_today: Path) -> None:
    first = made(tmp_path / "todm", 4)
    assert read_archive(opened(first)) == read_candidates(opened(first)) == read_archive(opened(of_today))
    assert measured_subnets(opened(first)) == measured_subnets(opened(of_today))
    with pytest.raises(UserError, match="has no front yet"):
        read_front(opened(first))


@pytest.mark.parametrize("age", [1, 2, 3])
def test_an_old_folder_is_reported_as_one_of_today(age: int, tmp_path: Path, of_today: Path) -> None:
    old = made(tmp_path / "exp" / "todm", age)
    pages = [render_results(collect([folder], "old", folder.parents[1]).study, "x") for folder in (of_today, old)]
    assert pages[0] == pages[1]
    assert "| todm | evolution | 14 |" in pages[0]


def test_the_first_folders_are_reported(tmp_path: Path, of_today: Path) -> None:
    first = made(tmp_path / "exp" / "todm", 4)
    (run,) = collect([first], "old", tmp_path).study.runs
    (now,) = collect([of_today], "new", tmp_path).study.runs
    assert run.subnets == now.subnets
    assert run.front == now.front
    assert (run.candidates, run.search, run.energy, run.command) == (None, None, {}, "")


@pytest.mark.parametrize("age", [0, 1, 2, 3, 4])
def test_a_change_of_an_old_folder_keeps_what_it_holds(age: int, tmp_path: Path) -> None:
    old = made(tmp_path / "todm", age)
    before = results_json(old)
    update_results(old, Results(epochs=31))
    assert results_json(old) == {**before, "epochs": 31, "version": 1}
