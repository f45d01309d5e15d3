"""JSON as other programs read it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimasr.files import to_json, write_json_atomic
from slimasr.results.report import CurvePoint, read_curve
from slimasr.supernet.front import Limits, Measurement, best_under, find_front
from slimasr.supernet.subnet import Subnet
from slimasr.training.logs import RunLog


def strict(text: str) -> Any:
    """Parsed by the standard: no NaN, no Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


ODD = {"a": [1.5, math.nan, (math.inf, {"b": -math.inf})], "c": np.float64("nan"), "d": None, "é": True, "f": 3}


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    expected = {"a": [1.5, None, [None, {"b": None}]], "c": None, "d": None, "é": True, "f": 3}
    assert strict(to_json(ODD)) == expected
    assert "é" in to_json(ODD)
    write_json_atomic(tmp_path / "x.json", ODD)
    assert strict((tmp_path / "x.json").read_text(encoding="utf-8")) == expected


def test_what_json_holds_stays_to_the_bit() -> None:
    value = {"x": [0.1 + 0.2, 1e-300, -0.0, 12345678901234567890, "NaN", "Infinity"]}
    assert json.loads(to_json(value)) == value


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logs_of_a_diverged_run_are_strict_and_the_report_reads_them(tmp_path: Path, bad: float) -> None:
    log = RunLog(tmp_path, active=True)
    log.begin(0, 0)
    dev = {"w1/transducer": bad, "w1/wer": 100.0}
    log.epoch({"epoch": 1, "step": 1, "lr": bad, "train": {"w1/transducer": bad}, "dev": dev})
    log.close()
    path = tmp_path / "train_log.jsonl"
    assert strict(path.read_text())["dev"] == {"w1/transducer": None, "w1/wer": 100.0}
    point = CurvePoint(epoch=1, step=1, values={"w1/wer": 100.0})
    assert read_curve(tmp_path) == (point,)
    path.write_text('{"epoch": 1, "step": 1, "dev": {"w1/transducer": Infinity, "w1/wer": 100.0}}\n')
    assert read_curve(tmp_path) == (point,), "as older versions wrote it"


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_a_figure_that_is_no_number_never_wins(bad: Any) -> None:
    def measured(width: float, wer: Any, loss: Any) -> Measurement:
        return Measurement(Subnet(width), wer, loss, {"params": 100 * width})

    good, lost, unknown = measured(0.5, 10.0, 2.0), measured(0.4, 10.0, bad), measured(0.3, bad, 1.0)
    for order in ([good, lost, unknown], [unknown, lost, good]):
        assert best_under(order, Limits()) is good
        assert find_front(order, "params") == [lost]
