"""Bad input to the search, through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from slimasr.cli.common import command_app
from slimasr.cli.search import run
from tests.search.untrained import make_data, make_experiment


def search(*arguments: object) -> Result:
    return CliRunner().invoke(command_app(run), list(map(str, arguments)))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data/`` and an untrained experiment ``exp/``."""
    root = tmp_path_factory.mktemp("search")
    make_experiment(root / "exp", make_data(root), [1.0])
    return root


def test_untrained_folder_names_the_stage(tmp_path: Path) -> None:
    result = search(tmp_path, "--data", tmp_path)
    assert result.exit_code == 1
    assert "run stage 4 (slimasr-train) first" in result.output


def test_missing_features_name_the_stage(place: Path, tmp_path: Path) -> None:
    result = search(place / "exp", "--data", tmp_path)
    assert result.exit_code == 1
    assert "run stage 2 (slimasr-features) first" in result.output


@pytest.mark.parametrize(("widths", "message"), [("0.5,x", "--slice 0.5,x"), ("1.5", "above 0 and at most 1")])
def test_slices_must_be_widths(place: Path, widths: str, message: str) -> None:
    result = search(place / "exp", "--data", place / "data", "--slice", widths)
    assert result.exit_code == 1
    assert message in result.output


def test_impossible_slice_names_the_size(place: Path) -> None:
    result = search(place / "exp", "--data", place / "data", "--slice", "0.3")
    assert result.exit_code == 1
    assert "not a whole number" in result.output
