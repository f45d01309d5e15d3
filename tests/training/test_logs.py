"""Logs of a run that was killed and went on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from slimasr.training.logs import RunLog


def record(epoch: int) -> dict[str, object]:
    dev = {"w1/transducer": 2.0, "w1/wer": 12.5}
    return {"epoch": epoch, "step": 10 * epoch, "lr": 0.1, "train": {"w1/transducer": 1.0}, "dev": dev}


def test_what_lies_beyond_the_checkpoint_is_taken_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog(tmp_path, active=True)
    log.begin(0, 0)
    for epoch in (1, 2, 3):
        log.epoch(record(epoch))
    log.close()
    with open(tmp_path / "train_log.jsonl", "a") as file:
        file.write('{"epoch": 1, "st')
    log.begin(1, 10)
    log.epoch(record(2))
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    assert lines == [record(1), record(2)]
    assert "epoch 2, step 20, lr 0.1: train w1/transducer 1.0000; dev w1/transducer 2.0000, w1/wer 12.50" in (
        capsys.readouterr().err
    )
    curves = EventAccumulator(str(tmp_path / "tensorboard"))
    curves.Reload()
    assert {event.step for event in curves.Scalars("dev/w1/wer")} >= {10, 20}


def test_other_processes_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog(tmp_path, active=False)
    log.begin(0, 0)
    log.say("hello")
    log.epoch(record(1))
    log.close()
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""
