"""Energy of a run that was interrupted: what both parts took."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from slimasr.energy import EnergyMeter
from slimasr.training.checkpoint import list_checkpoints, newest_checkpoint
from tests.results.kit import results_json
from tests.training.kit import make_trainer, tiny_config

with_codecarbon = pytest.mark.skipif(
    importlib.util.find_spec("codecarbon") is None, reason="the extra energy is not installed"
)


@with_codecarbon
def test_resumed_run_counts_from_its_checkpoint_on(tmp_path: Path) -> None:
    config = tiny_config(training={"num_epochs": 2, "energy": True})
    first = make_trainer(config, tmp_path)
    first.meter = EnergyMeter()
    first.run_epoch()  # and killed
    saved = newest_checkpoint(tmp_path / "checkpoints", print)
    assert saved is not None
    before = saved["state"]["energy"]
    assert before["cpu_seconds"] > 0

    again = make_trainer(config, tmp_path)
    again.meter = EnergyMeter()
    again.run()
    entry = results_json(tmp_path)["energy"]["train"]
    alone = again.meter.read()
    assert entry["cpu_seconds"] > before["cpu_seconds"]
    assert entry["wall_seconds"] > before["wall_seconds"]
    assert alone.wall_seconds < entry["wall_seconds"]
    assert entry["gpu_seconds"] == 0
    first.meter.stop()
    again.meter.stop()


def test_nothing_is_noted_unless_asked_for(tmp_path: Path) -> None:
    trainer = make_trainer(tiny_config(training={"num_epochs": 1}), tmp_path)
    trainer.run()
    assert list_checkpoints(tmp_path / "checkpoints")
    assert trainer.state.energy is None
    assert "energy" not in results_json(tmp_path)
