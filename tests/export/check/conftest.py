"""One bundle for all tests of the check."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Place:
    """Folders of a recipe."""

    exp: Path
    data: Path
    bundle: Path

    def copy(self, folder: Path) -> Place:
        """A copy of the bundle and the experiment that a test may change."""
        shutil.copytree(self.exp, folder / "exp")
        shutil.copytree(self.bundle, folder / "bundle")
        return Place(folder / "exp", self.data, folder / "bundle")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """An untrained experiment, data whose references are what its model finds in them, and its bundle."""
    for name in ("onnx", "onnxscript", "onnxruntime", "sherpa_onnx"):
        pytest.importorskip(name)
    from tests.export.check.handmade import make_bundle, said_by, talkative_experiment
    from tests.search.untrained import make_data

    root = tmp_path_factory.mktemp("check")
    data = make_data(root)
    exp = talkative_experiment(root / "exp", data)
    said_by(exp, data)
    return Place(exp, data, make_bundle(exp, root / "bundle"))


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Place:
    """A copy for one test."""
    return made.copy(tmp_path)
