"""What can be said of a bundle's files before any is run."""

from __future__ import annotations

from slimasr.export.check.bundle import CheckedBundle


def check_files(bundle: CheckedBundle) -> None:
    """Check that the files of a bundle are those that were written."""
