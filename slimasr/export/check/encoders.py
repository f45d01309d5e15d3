"""The encoder of a bundle alone, in onnxruntime, beside that in torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from slimasr.export.check.audio import Heard
from slimasr.export.check.reference import Reference


def largest_difference(encoder: Path, reference: Reference, audio: Sequence[Heard]) -> float:
    """Return the largest absolute difference of encoder outputs between a file and torch, over utterances.

    It is infinite if the numbers of frames differ, or the file cannot be run in this way, as an encoder of chunks.
    """
    try:
        session = onnxruntime.InferenceSession(str(encoder), providers=["CPUExecutionProvider"])
        return max(_difference(session, reference, heard) for heard in audio)
    except Exception:  # onnxruntime raises classes of its own
        return math.inf


def _difference(session: onnxruntime.InferenceSession, reference: Reference, heard: Heard) -> float:
    features = reference.features(heard)[np.newaxis]
    lens = np.array([features.shape[1]], dtype=np.int64)
    names = [entry.name for entry in session.get_inputs()]
    found = session.run(None, dict(zip(names, (features, lens), strict=True)))[0]
    scores = reference.scores(heard)
    if found.shape != tuple(scores.shape):
        return math.inf
    return float(np.abs(found - scores.numpy()).max())
