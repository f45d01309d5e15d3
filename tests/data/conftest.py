"""The tiny corpus, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from slimasr.data.tokens.tokenizer import Tokenizer
from tests.data.corpus import config, make_an4, run_stages


@pytest.fixture(scope="session")
def _made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_an4(tmp_path_factory.mktemp("corpus") / "an4")


@pytest.fixture
def an4(_made_once: Path, tmp_path: Path) -> Path:
    """A tiny corpus of the test's own, to spoil."""
    return Path(shutil.copytree(_made_once, tmp_path / "an4"))


@pytest.fixture(scope="session")
def prepared(_made_once: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tokenizer]:
    """Data folder after stages 1 to 3 at three speeds, to read only, and its tokenizer."""
    data_dir = tmp_path_factory.mktemp("prepared") / "data"
    return data_dir, run_stages(config(speeds=[0.9, 1.0, 1.1]), data_dir, _made_once)
