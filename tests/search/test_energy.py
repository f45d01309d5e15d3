"""What a search takes grows in the record over all its runs, also when one is interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from slimasr import energy
from slimasr.energy import NO_METER, EnergyMeter, EnergyReading
from slimasr.results.schema import Results
from slimasr.results.store import update_results
from slimasr.search.energy import metered
from tests.results.kit import results_json


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> EnergyMeter:
    """On a machine without meters."""
    monkeypatch.setattr(energy, "find_meters", tuple)
    return EnergyMeter(gpus=1)


def interrupted() -> Iterator[int]:
    yield 1
    raise KeyboardInterrupt


def test_runs_add_up(meter: EnergyMeter, tmp_path: Path) -> None:
    trained = EnergyReading(1.0, 2.0, 0.0, 3.0, "processor").to_entry()
    update_results(tmp_path, Results(name="x", energy={"train": trained}))
    assert list(metered(range(3), tmp_path, meter)) == [0, 1, 2]
    first = results_json(tmp_path)["energy"]["search"]
    with pytest.raises(KeyboardInterrupt):
        list(metered(interrupted(), tmp_path, meter))
    results = results_json(tmp_path)
    second = results["energy"]["search"]
    assert 0 < first["wall_seconds"] < second["wall_seconds"]
    assert second["gpu_seconds"] == pytest.approx(second["wall_seconds"])
    assert (second["kwh"], second["source"]) == (None, NO_METER)
    assert results["energy"]["train"] == trained.to_dict()


def test_without_a_meter_the_record_is_left_alone(tmp_path: Path) -> None:
    assert list(metered(range(3), tmp_path, None)) == [0, 1, 2]
    assert not (tmp_path / "results.json").exists()
