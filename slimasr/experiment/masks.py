"""The masks of the pathways of a trained experiment."""

from __future__ import annotations

from pathlib import Path

from slimasr.models.mask_files import FINAL, SavedMasks, read_masks


def final_masks(exp: Path) -> SavedMasks | None:
    """Return the masks of an experiment's final weights, None if it has none.

    Raises:
        UserError: they cannot be read or are damaged.
    """
    path = exp / FINAL
    return read_masks(path) if path.exists() else None
