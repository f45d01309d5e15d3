"""A made-up device: its times follow from the genes by an additive law, and its profiles are real files."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from slimasr.experiment import Experiment
from slimasr.experiment.architecture import architecture_digest
from slimasr.supernet.subnet import Subnet, unit_count

MACHINE = {"name": "phone", "processor": "ARM", "system": "Linux", "python": "3.11", "onnxruntime": "1.20.1"}


def time_of(subnet: Subnet, layers: int, sizes: Mapping[str, int]) -> float:
    """Milliseconds: convex in the units of a module, so that no single slope explains them, and in the width.

    Args:
        layers: layers of the max subnet.
        sizes: module -> its units in the max subnet.
    """
    depth = layers if subnet.path is None else len(subnet.path)
    chosen = dict(subnet.units)
    total = 5.0 + 3.0 * subnet.width
    for layer in range(depth):
        total += 1.5 * subnet.width
        for module, size in sizes.items():
            share = unit_count(chosen.get(f"{layer}.{module}", size)) / size
            total += len(module) * subnet.width**2 * share**1.5
    return total


def noisy(times: Mapping[Subnet, float], share: float, seed: int = 0) -> dict[Subnet, float]:
    """The times, each wrong by up to a share of it."""
    rng = random.Random(seed)
    return {subnet: time * (1.0 + rng.uniform(-share, share)) for subnet, time in times.items()}


def row(subnet: Subnet, time: float | None, precision: str = "float", threads: int = 1) -> dict[str, Any]:
    """A row of a profile as ``run.py profile`` writes it."""
    rest = {"load_ms": 10.0, "encoder_ms_per_second": 1.0, "rtf": 0.01, "rtf_p90": 0.01, "peak_mb": None, "bytes": 1000}
    named = {"size": subnet.id, "subnet": subnet.to_dict(), "precision": precision, "threads": threads}
    return {**named, "encoder_ms": time, **rest}


def write_profile(path: Path, experiment: Experiment | str, rows: Iterable[dict[str, Any]], **changes: Any) -> Path:
    """Write a profile of an experiment, or of another architecture, with some keys changed."""
    architecture = experiment if isinstance(experiment, str) else architecture_digest(experiment)
    content = {
        "format": "slimasr-profile",
        "version": 1,
        "model": {"name": "made-up", "weights": "0" * 64, "architecture": architecture},
        "machine": MACHINE,
        "audio": {"source": "noise", "seconds": [10.0]},
        "rows": list(rows),
        **changes,
    }
    path.write_text(json.dumps(content))
    return path
