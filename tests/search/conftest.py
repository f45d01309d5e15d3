"""Untrained experiments that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from slimasr.cli.search import run
from tests.search.untrained import copy_of, make_data, make_experiment


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder after stages 1 to 3."""
    return make_data(tmp_path_factory.mktemp("search"))


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A supernet of widths 1 and 0.5, not to be written into."""
    return make_experiment(tmp_path_factory.mktemp("exp") / "untrained", data, [0.5, 1.0])


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory, untrained: Path, data: Path) -> Path:
    """The same after stage 5, not to be written into."""
    folder = copy_of(untrained, tmp_path_factory.mktemp("exp") / "searched")
    result = CliRunner().invoke(command_app(run), [str(folder), "--data", str(data)])
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def experiment(searched: Path, tmp_path: Path) -> Path:
    """A copy of the searched one that a test may write into."""
    return copy_of(searched, tmp_path / "experiment")
