"""The masks of pathways that a run has kept in its experiment folder."""

from __future__ import annotations

from pathlib import Path

from slimasr.models.mask_files import FINAL, SavedMasks, read_masks


def final_masks(exp: Path) -> SavedMasks | None:
    """Return the masks of the final weights, None if the experiment has none or is not complete.

    Raises:
        UserError: the file is damaged.
    """
    path = exp / FINAL
    return read_masks(path) if path.is_file() else None
