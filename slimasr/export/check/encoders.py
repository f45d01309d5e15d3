"""The encoder of a bundle alone, in onnxruntime, beside that in torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from slimasr.export.check.audio import Heard
from slimasr.export.check.reference import Reference
from slimasr.export.session import Session


def largest_difference(encoder: Path, reference: Reference, audio: Sequence[Heard]) -> float:
    """Return the largest absolute difference of encoder outputs between a file and torch, over utterances.

    It is infinite if the numbers of frames differ, or the file does not run here.
    """
    try:
        session = Session(encoder)
        return max(_difference(session, reference, heard) for heard in audio)
    except Exception:  # onnxruntime raises classes of its own
        return math.inf


def _difference(session: Session, reference: Reference, heard: Heard) -> float:
    features = torch.from_numpy(reference.features(heard)).unsqueeze(0)
    found = session.run(features, torch.tensor([features.shape[1]]))[0]
    scores = reference.scores(heard)
    return float((found - scores).abs().max()) if found.shape == scores.shape else math.inf
