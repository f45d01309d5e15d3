"""The README of a bundle."""

from typing import Any


def bundle_readme(manifest: dict[str, Any]) -> str:
    """Stub."""
    return "# Bundle\n"
