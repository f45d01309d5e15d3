"""Checks samples that a program passes, as files are checked when they are read."""

from __future__ import annotations

from typing import Any

import numpy as np

from slimasr.data.audio.file import AudioError, check_range
from slimasr.errors import UserError

INT16_SCALE = 32768
"""Full scale of 16-bit samples."""


def checked_samples(samples: Any) -> np.ndarray:
    """Return (T,) float32 samples.

    Args:
        samples: anything that numpy reads as (T,) floating-point numbers in [-1, 1] or int16, with any T.

    Raises:
        UserError: they have another shape or type, are not finite, or are far outside [-1, 1].
    """
    values = np.asarray(samples)
    if values.ndim != 1:
        raise UserError(f"samples of a stream have the shape (T,), got {values.shape}: pass one channel at a time")
    if values.dtype == np.int16:
        return values.astype(np.float32) / INT16_SCALE
    if len(values) and not np.issubdtype(values.dtype, np.floating):
        raise UserError(f"samples are floating-point numbers in [-1, 1] or int16, got {values.dtype}")
    sound = values.astype(np.float32)
    try:
        check_range(sound, "the stream")
    except AudioError as error:
        raise UserError(str(error)) from error
    return sound
