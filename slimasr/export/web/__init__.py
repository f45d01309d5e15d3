"""The web page of a bundle."""

from pathlib import Path


def add_web(folder: Path, dist: Path) -> None:
    """Stub."""
    raise NotImplementedError
