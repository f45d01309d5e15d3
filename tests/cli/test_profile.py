"""Costs through the command line, against parameters counted by torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from slimasr.cli.common import command_app
from slimasr.cli.profile import run
from slimasr.config.load import save_config
from slimasr.models.build import build_model
from slimasr.supernet.subnet import Subnet
from tests.search.untrained import make_config

VOCAB_SIZE = 11


def profile(*arguments: object) -> Result:
    return CliRunner().invoke(command_app(run), list(map(str, arguments)))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    save_config(make_config("tiny", [0.5, 1.0]), tmp_path / "conf.yaml")
    return tmp_path / "conf.yaml"


def test_json_counts_what_extracted_models_hold(config: Path) -> None:
    result = profile("--config", config, "--vocab-size", VOCAB_SIZE, "--no-rtf", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    model = build_model(make_config("tiny", [0.5, 1.0]).model, None, VOCAB_SIZE, (1.0, 0.5))
    assert list(found) == ["w1", "w0.5"]
    for subnet_id, entry in found.items():
        extracted = model.extract(Subnet(float(subnet_id[1:])))
        assert entry["costs"]["params"] == sum(p.numel() for p in extracted.parameters())
        assert "rtf" not in entry["costs"]


def test_table_is_plain_off_a_terminal_and_holds_measured_time(config: Path) -> None:
    result = profile("--config", config, "--vocab-size", VOCAB_SIZE, "--set", "search.rtf_seconds=0.5")
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    lines = result.output.splitlines()
    heading = next(line for line in lines if line.startswith("subnet"))
    assert all(name in heading for name in ("params M", "int8 MB", "paper size MB", "MMACs/s", "RTF", "peak MB"))
    rows = [line.split() for line in lines if line.startswith("w")]
    assert [row[0] for row in rows] == ["w1", "w0.5"]
    assert all(len(row) == 8 and float(row[6]) > 0 for row in rows)


def test_overrides_change_the_model(config: Path) -> None:
    result = profile("--config", config, "--no-rtf", "--json", "--set", "space.widths=[0.25, 1.0]")
    assert list(json.loads(result.stdout)) == ["w1", "w0.25"]


def test_impossible_width_names_the_key(config: Path) -> None:
    result = profile("--config", config, "--no-rtf", "--set", "space.widths=[0.3, 1.0]")
    assert result.exit_code == 1
    assert "space.widths" in result.output


def test_needs_a_folder_or_a_configuration(config: Path) -> None:
    assert "name either" in profile().output
    assert "name either" in profile(config.parent, "--config", config).output
