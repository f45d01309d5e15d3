"""What a run keeps of the subnets that its method has learnt: a part of every checkpoint, and a readable record."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from slimasr.methods.base import Method
from slimasr.models.base import SpeechModel
from slimasr.results.learnt import LearntEntry, LearntSubnets


def saved_subnets(method: Method) -> dict[str, Any]:
    """Return what a checkpoint holds of learnt subnets, from which `slimasr.experiment` builds the space."""
    learnt = method.learnt()
    return {} if learnt is None else {"subnets": [item.to_dict() for item in learnt]}


def record_subnets(exp: Path, model: SpeechModel, method: Method) -> None:
    """Write ``subnets.json``, once there are learnt subnets.

    Raises:
        UserError: the file cannot be written.
    """
    learnt = method.learnt()
    if learnt:
        entries = tuple(LearntEntry.of(item, asdict(model.count(item.subnet))) for item in learnt)
        LearntSubnets(subnets=entries).write(exp)
