"""The whole of stage 5 as a library function."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from slimasr.data.features.stage import compute_features
from slimasr.data.files import DataFolder, read_cuts, write_cuts
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.measure.slices import measure_slices
from slimasr.progress import silent
from slimasr.results.store import read_results
from slimasr.search.search import Job
from slimasr.search.stage import run_search
from slimasr.supernet.front import Limits
from tests.search.untrained import copy_of, make_config, make_experiment

T = TypeVar("T")


@pytest.fixture
def unsearched(untrained: Path, tmp_path: Path) -> Path:
    """A copy of the supernet of widths 1 and 0.5 that a test may search."""
    return copy_of(untrained, tmp_path / "unsearched")


def front_of(folder: Path) -> list[dict[str, object]]:
    content: dict[str, list[dict[str, object]]] = json.loads((folder / "search" / "front.json").read_text())
    return content["front"]


def test_the_result_is_what_the_files_hold(unsearched: Path, data: Path) -> None:
    found = run_search(Job(unsearched, data))
    assert [(m.subnet.id, m.wer, dict(m.costs)) for m in found.front] == [
        (item["id"], item["wer"], item["costs"]) for item in front_of(unsearched)
    ]
    assert {m.subnet.id for m in found.finalists} == set(read_results(unsearched).subnets) == {"w1", "w0.5"}
    written = json.loads((unsearched / "search" / "summary.json").read_text())
    assert found.summary.model_dump().items() >= {key: written[key] for key in ("candidates", "minutes")}.items()
    assert (found.set_name, found.cost) == ("dev", "params")
    assert found.best() == min(found.candidates, key=lambda m: (*m.fitness, m.costs["params"]))


def test_the_best_is_within_the_limits_of_caller_and_recipe(unsearched: Path, data: Path) -> None:
    small = Experiment.open(unsearched).space.min
    params = Experiment.open(unsearched).model.count(small).params
    found = run_search(Job(unsearched, data), limits=Limits(params=params))
    assert found.limits == Limits(params=params)
    assert found.best().subnet == small
    job = Job(unsearched, data, overrides=(f"search.limits.params={params}",))
    again = run_search(job, limits=Limits(macs=1.0))
    assert again.limits == Limits(params=params, macs=1.0)
    with pytest.raises(UserError, match=r"no subnet meets .*macs <= 1"):
        again.best()


def test_progress_counts_candidates_then_finalists(unsearched: Path, data: Path) -> None:
    shown: list[tuple[str, int | None, int]] = []

    def progress(items: Iterable[T], total: int | None = None, label: str = "") -> Iterator[T]:
        passed = list(items)
        shown.append((label, total, len(passed)))
        yield from passed

    run_search(Job(unsearched, data), progress=progress)
    assert shown == [("search", 2, 2), ("front", 2, 2)]
    run_search(Job(unsearched, data), progress=progress)
    assert shown[2:] == [("search", 0, 0), ("front", 2, 2)]


def test_notes_come_before_the_search(unsearched: Path, data: Path, tmp_path: Path) -> None:
    def interrupted(items: Iterable[T], total: int | None = None, label: str = "") -> Iterator[T]:
        raise KeyboardInterrupt

    heard: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_search(Job(unsearched, data), progress=interrupted, notes=heard.extend)
    assert not [note for note in heard if "left out of the losses" in note]
    # A text longer than its audio allows has no loss.
    spoilt = copy_of(data, tmp_path / "data")
    cuts = list(read_cuts(DataFolder(spoilt).raw_cuts("dev"), "stage 1"))
    cuts[0].supervisions[0].text = "yes " * 200
    write_cuts(DataFolder(spoilt).raw_cuts("dev"), cuts)
    compute_features(make_config("data", [1.0]), spoilt, 1, silent)
    job = Job(unsearched, spoilt, storage=f"sqlite:///{tmp_path}/spoilt.db")
    with pytest.raises(KeyboardInterrupt):
        run_search(job, progress=interrupted, notes=heard.extend)
    assert any("dev: 1 of 5 utterances is left out of the losses" in note for note in heard)


def test_a_run_killed_while_it_measures_the_front_leaves_one(unsearched: Path, data: Path) -> None:
    def killed(items: Iterable[T], total: int | None = None, label: str = "") -> Iterator[T]:
        if label == "front":
            raise KeyboardInterrupt
        return iter(items)

    with pytest.raises(KeyboardInterrupt):
        run_search(Job(unsearched, data), progress=killed)
    first = front_of(unsearched)
    assert first and all("rtf" not in item["costs"] for item in first)
    found = run_search(Job(unsearched, data))
    assert [item["id"] for item in front_of(unsearched)] == [item["id"] for item in first]
    assert all("rtf" in measurement.costs for measurement in found.front)


def test_the_weights_are_hashed_once(unsearched: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    read_bytes = Path.read_bytes

    def counted(path: Path) -> bytes:
        read.append(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    run_search(Job(unsearched, data)).best()
    assert read.count(unsearched / "final.pt") == 1


def test_slices_are_those_of_the_record(tmp_path: Path, data: Path) -> None:
    experiment = Experiment.open(make_experiment(tmp_path / "separate", data, [1.0]))
    found = dict(measure_slices(experiment, data, [1.0, 0.5]))
    recorded = read_results(experiment.dir).slices
    assert [subnet.id for subnet in found] == list(recorded) == ["w1", "w0.5"]
    for subnet, wers in found.items():
        assert wers == {name: entry.wer for name, entry in recorded[subnet.id].wer.items()}
