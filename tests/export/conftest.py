"""The made-up bundle on which the program of bundles is tried."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slimasr.export import device

Says = Callable[..., tuple[int, str]]
"""Runs the program in this process: its words -> its status and what it printed."""


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two sizes, which no test changes."""
    pytest.importorskip("onnx")
    from tests.export.tiny_bundle import make_bundle

    return make_bundle(tmp_path_factory.mktemp("device") / "bundle")


@pytest.fixture
def own(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, which a test may change."""
    return Path(shutil.copytree(bundle, tmp_path / "own"))


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Says:
    """Starting a process takes longer than what most words do."""

    def say(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["run.py", *map(str, words)])
        try:
            status = device.main()
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return say
