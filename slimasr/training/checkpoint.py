"""Checkpoints are written atomically and found newest first; damaged ones are skipped.

``epoch-003.pt`` is the state after three epochs, ``epoch-003-step-00000120.pt`` one inside the fourth, at optimiser
step 120.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from slimasr.data.memory.sampling import EpochPart
from slimasr.data.shar.place import Place
from slimasr.energy import EnergyReading
from slimasr.errors import UserError
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.files import remove_unfinished, write_atomic
from slimasr.methods.figures import StepReport

NAME = re.compile(r"epoch-(\d+)(?:-step-(\d+))?\.pt")


@dataclass
class RunState:
    """The position of a run and everything else a checkpoint stores besides weights and optimiser, as plain values.

    Attributes:
        epoch: epochs finished.
        batch: batches of the running epoch already used, per process, without those of its ``parts``.
        num_batches: batches of the running epoch, per process, without those of its ``parts``; 0 in checkpoints of
            earlier versions, which do not hold it.
        world_size: number of processes; 0 in checkpoints of earlier versions.
        num_threads: processor threads of each process; None until they are chosen, and in checkpoints of earlier
            versions.
        parts: earlier parts of the running epoch, trained by another number of processes or on other data.
        place: position in the stream of shards; None before the first batch, and with data in memory.
        origin: planned steps (`slimasr.training.plan`) done before the first of the ``num_batches``.
        step: optimiser steps done, including skipped ones.
        lr: learning rate of the last step.
        seconds: time spent training by part (`slimasr.training.timing`), over all resumes.
        energy: energy used for training (`slimasr.energy.EnergyReading`), None if it is not measured.
        sums, units: training losses of the running epoch by name, and the tokens or nodes over which they were summed.
        unrestricted: utterances of the running epoch on which the restricted loss used the full lattice, each counted
            whenever a batch held it.
        nonfinite: steps of the whole run that were skipped because of a non-finite loss or gradient.
        nonfinite_row: number of consecutive such steps up to now.
        best: lowest (mean WER, mean loss) on dev so far.
        unvalidated: log entry of the last epoch while its validation is pending; None after it.
    """

    epoch: int = 0
    batch: int = 0
    num_batches: int = 0
    world_size: int = 0
    num_threads: int | None = None
    parts: list[EpochPart] = field(default_factory=list)
    place: Place | None = None
    origin: float = 0.0
    step: int = 0
    lr: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    energy: EnergyReading | None = None
    sums: dict[str, float] = field(default_factory=dict)
    units: dict[str, float] = field(default_factory=dict)
    unrestricted: int = 0
    nonfinite: int = 0
    nonfinite_row: int = 0
    best: list[float] | None = None
    unvalidated: dict[str, Any] | None = None

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> RunState:
        """Build the state from ``asdict``'s output; fields that earlier versions did not write keep their defaults."""
        # asdict turns nested dataclasses into dicts, which load_checkpoint can read without running any code.
        parts = [EpochPart(**part) for part in content.get("parts", [])]
        stored = content.get("energy")
        energy = None if stored is None else EnergyReading(**stored)
        # Earlier versions wrote the total alone.
        seconds = content.get("seconds", {})
        if not isinstance(seconds, Mapping):
            seconds = {"rest": seconds}
        place = Place.of(content.get("place"))
        return cls(**{**content, "parts": parts, "energy": energy, "seconds": dict(seconds), "place": place})

    def add_seconds(self, spent: Mapping[str, float]) -> None:
        """Add time spent training, by part."""
        for part, seconds in spent.items():
            self.seconds[part] = self.seconds.get(part, 0.0) + seconds

    def add_losses(self, report: StepReport) -> None:
        """Add the losses of a step to those of the running epoch."""
        self.unrestricted += report.unrestricted
        for name, value in report.losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.units[name] = self.units.get(name, 0.0) + report.units[name]

    def clear_losses(self) -> None:
        """Begin the sums of another epoch."""
        self.sums = {}
        self.units = {}
        self.unrestricted = 0

    @property
    def minutes(self) -> float:
        """Minutes spent training, over all resumes."""
        return sum(self.seconds.values()) / 60.0

    @property
    def mid_epoch(self) -> bool:
        """Whether the running epoch has begun."""
        # After a change of processes or data, `batch` is 0 again, although earlier parts have been trained.
        return self.batch > 0 or bool(self.parts)

    @property
    def checkpoint_name(self) -> str:
        """Name of the checkpoint file for this position."""
        name = f"epoch-{self.epoch:03d}"
        return f"{name}-step-{self.step:08d}.pt" if self.mid_epoch else f"{name}.pt"


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values.

    Raises:
        UserError: the file cannot be written; earlier checkpoints are unchanged.
    """
    # Serialised in memory first, so that the file can be written and moved into place as a whole.
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    write_atomic(path, buffer.getbuffer())


def keeper(exp: Path, *, active: bool) -> Callable[[str, Mapping[str, Any]], None]:
    """Return `StepContext.keep` of an experiment; it does nothing except in the main process.

    The function raises UserError if a file cannot be written.
    """

    def keep(path: str, content: Mapping[str, Any]) -> None:
        if active:
            (exp / path).parent.mkdir(parents=True, exist_ok=True)
            save_checkpoint(exp / path, content)

    return keep


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the resumable checkpoints, oldest first."""
    found = []
    for path in folder.glob("*.pt"):
        match = NAME.fullmatch(path.name)
        if match is not None:
            # A checkpoint without a step is the end of an epoch, and older than those inside the next one.
            found.append((int(match[1]), int(match[2] or 0), path))
    return [path for _, _, path in sorted(found)]


def newest_checkpoint(folder: Path, report: Callable[[str], None]) -> dict[str, Any] | None:
    """Load the newest readable checkpoint, None if the run has none yet, and report damaged ones.

    Raises:
        UserError: there are checkpoints, but none can be read.
    """
    paths = list_checkpoints(folder)
    for path in reversed(paths):
        try:
            saved = load_checkpoint(path)
        except UserError as error:
            report(f"{error}: skipped")
            continue
        report(f"going on from {path.name}")
        return saved
    if paths:
        raise UserError(f"{folder}: every checkpoint is damaged; remove the folder to train from the beginning")
    return None


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` checkpoints, and what is left of checkpoints whose writing was killed.

    ``best.pt`` is not one of them and stays.
    """
    remove_unfinished(folder)
    for path in list_checkpoints(folder)[:-keep]:
        path.unlink(missing_ok=True)
