"""Latency on a device in a report: its column, its pictures, and the device's name."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimasr.report.pictures.describe import result_pictures
from slimasr.report.pictures.picture import Picture
from slimasr.report.records import Study
from slimasr.report.tables.common import measurement_table, subnet_table
from slimasr.report.tables.table import ABSENT
from slimasr.results.report import Report
from slimasr.supernet.front import Measurement
from slimasr.supernet.subnet import Subnet
from tests.report.made_up import study_of

EGS = Path(__file__).parents[2] / "egs"
PHONE: dict[str, Any] = {
    "name": "phone",
    "precision": "int8",
    "threads": 2,
    "seconds": [8.0, 12.0],
    "subnets": 9,
    "left_out": 9,
    "mean_error": 1.25,
    "largest_error": 3.5,
    "profile": "0123",
}


def latency_of(params: float) -> float:
    return 3.0 + params / 2e5


def with_latency(run: dict[str, Any], device: dict[str, Any]) -> dict[str, Any]:
    """A run of a report as it is after a search for a device."""
    changed = copy.deepcopy(run)
    changed["latency_device"] = device
    for entry in changed["subnets"].values():
        entry["costs"]["latency"] = latency_of(entry["costs"]["params"])
    if "candidates" in changed:
        costs = changed["candidates"]["costs"]
        costs["latency"] = [latency_of(params) for params in costs["params"]]
    return changed


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EGS / "an4/results_todm.json").read_text(encoding="utf-8"))
    for run in found["experiments"].values():
        run["main"] = run.get("model") == "F"
    return found


def changed_study(data: dict[str, Any], **devices: dict[str, Any]) -> Study:
    """The study of a report in which some runs, named by their model, have latencies."""
    runs = {
        name: with_latency(run, devices[run["model"]]) if run.get("model") in devices else run
        for name, run in data["experiments"].items()
    }
    return study_of({**data, "experiments": runs})


def pictures_of(study: Study) -> dict[str, Picture]:
    return {picture.name: picture for picture in result_pictures(study, "test")}


def test_wer_is_drawn_against_the_latency_of_the_device(data: dict[str, Any]) -> None:
    study = changed_study(data, F=PHONE)
    new = pictures_of(study).keys() - pictures_of(study_of(data)).keys()
    assert new == {"wer-latency", "search-latency"}
    model = next(run for run in data["experiments"].values() if run["model"] == "F")
    (chart,) = pictures_of(study)["wer-latency"].charts
    (panel,) = chart.panels
    drawn = sorted((point.x, point.y) for series in panel.series for point in series.points)
    expected = [(latency_of(s["costs"]["params"]), s["wer"]["test"]["wer"]) for s in model["subnets"].values()]
    np.testing.assert_allclose(drawn, sorted(expected))
    assert (chart.x.title, chart.x.unit) == (
        "latency of the encoder on phone (int8, 2 threads, 10 s of audio)",
        "ms",
    )
    words = "9 subnets measured; 9 of them predicted from the others within 3.5 %, 1.2 % on average"
    assert words in chart.note
    (searched,) = pictures_of(study)["search-latency"].charts
    points = [point.x for series in searched.panels[0].series[:2] for point in series.points]
    assert sorted(points) == pytest.approx(sorted(map(latency_of, model["candidates"]["costs"]["params"])))


def test_devices_are_never_in_one_picture(data: dict[str, Any]) -> None:
    study = changed_study(data, F=PHONE, E=PHONE | {"name": "tablet"})
    pictures = pictures_of(study)
    titles = {name: picture.charts[0].x.title for name, picture in pictures.items() if "search-latency" in name}
    assert sorted("phone" in title for title in titles.values()) == [False, True]
    assert titles.keys() == {"search-latency", "search-latency-2"}
    assert all(len(pictures[name].charts[0].panels) == 1 for name in titles)
    notes = subnet_table(study).note
    assert "the encoder on phone (int8" in notes and "the encoder on tablet (int8" in notes


def test_the_table_has_a_column_where_there_are_latencies(data: dict[str, Any]) -> None:
    plain, table = subnet_table(study_of(data)), subnet_table(changed_study(data, F=PHONE))
    assert "device latency ms" not in plain.columns and "phone" not in plain.note
    place = table.columns.index("device latency ms")
    assert "Device latency: the encoder on phone (int8, 2 threads, 10 s of audio), for one utterance" in table.note
    params = table.columns.index("params M")
    cells = [(row[params], row[place]) for row in table.rows if row[place] != ABSENT]
    assert len(cells) == len(next(r for r in data["experiments"].values() if r["model"] == "F")["subnets"])
    for million, cell in cells:
        assert float(cell) == pytest.approx(latency_of(1e6 * float(million)), abs=0.06)


def test_a_search_prints_latencies_where_there_are_any() -> None:
    costs = {"params": 1e6, "latency": 12.34}
    found = [Measurement(Subnet(), 5.0, 0.5, costs)]
    table = measurement_table(found, found, "dev", "latency")
    assert dict(zip(table.columns, table.rows[0], strict=True))["device latency ms"] == "12.3"
    plain = measurement_table([Measurement(Subnet(), 5.0, 0.5, {"params": 1e6})], [], "dev", "params")
    assert "device latency ms" not in plain.columns


def test_reports_keep_the_device(data: dict[str, Any]) -> None:
    name = next(name for name, run in data["experiments"].items() if run["model"] == "F")
    runs = {**data["experiments"], name: with_latency(data["experiments"][name], PHONE)}
    report = Report.parse({**data, "experiments": runs}, Path("results.json"))
    assert report.to_dict()["experiments"][name]["latency_device"] == PHONE
