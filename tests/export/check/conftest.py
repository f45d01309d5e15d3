"""One bundle for all tests of the check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Place:
    """Folders of a recipe."""

    exp: Path
    data: Path
    bundle: Path


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """An untrained experiment, its data, and its bundle; tests change copies."""
    for name in ("onnx", "onnxscript", "onnxruntime", "sherpa_onnx"):
        pytest.importorskip(name)
    from tests.export.check.handmade import make_bundle, talkative_experiment
    from tests.search.untrained import make_data

    root = tmp_path_factory.mktemp("check")
    data = make_data(root)
    exp = talkative_experiment(root / "exp", data)
    return Place(exp, data, make_bundle(exp, root / "bundle"))
