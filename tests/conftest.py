"""Fixtures that many rooms use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# Workers of pytest-xdist share the cores; set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Folder of real corpora, ``$SLIMASR_CORPORA``; tests that need it are skipped where it is absent."""
    folder = os.environ.get("SLIMASR_CORPORA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("$SLIMASR_CORPORA names no folder: real corpora are not at hand")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def corpus(corpora: Path) -> Callable[[str], Path]:
    """``corpus("an4")`` is the folder of one real corpus, or skips the test."""

    def find(name: str) -> Path:
        folder = corpora / name
        if not folder.is_dir():
            pytest.skip(f"$SLIMASR_CORPORA has no {name}")
        return folder

    return find
