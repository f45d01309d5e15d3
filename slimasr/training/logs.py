"""The logs of a run: train.log is for people, train_log.jsonl for reports, tensorboard for curves."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slimasr.files import append, to_json, write_atomic, writing


class RunLog:
    """The logs of a run; the methods do nothing except in the main process."""

    def __init__(self, exp: Path, *, active: bool) -> None:
        self.exp = exp
        self.active = active
        self._writer: Any = None

    def say(self, text: str) -> None:
        """Write one line to stderr and, with the time, to train.log."""
        if not self.active:
            return
        print(text, file=sys.stderr, flush=True)
        append(self.exp / "train.log", f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def begin(self, epoch: int, step: int) -> None:
        """Start or resume after ``epoch`` finished epochs; entries that a killed run logged after them are removed."""
        if not self.active:
            return
        # Imported here because it is slow to import, and only training needs it.
        from torch.utils.tensorboard import SummaryWriter

        path = self.exp / "train_log.jsonl"
        if path.exists():
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if _epoch_of(line) <= epoch]
            write_atomic(path, "".join(f"{line}\n" for line in lines))
        folder = self.exp / "tensorboard"
        try:
            with writing(folder):
                # Points that a killed run logged after the checkpoint are hidden, since they will be logged again.
                self._writer = SummaryWriter(str(folder), purge_step=step + 1)
        except UnicodeEncodeError:
            self.say(f"{folder}: no curves, as tensorboard writes only to folders whose names are UTF-8")

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Add points to the tensorboard curves ``group/name``."""
        if self._writer is not None:
            # Tensorboard writes in a thread of its own, so an error there is raised by the next call.
            with writing(self.exp / "tensorboard"):
                for name, value in values.items():
                    self._writer.add_scalar(f"{group}/{name}", value, step)

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Write one line of train_log.jsonl, the curves, and the same figures for people."""
        if not self.active:
            return
        append(self.exp / "train_log.jsonl", to_json(record) + "\n")
        # Epochs without a validation have no figures of the dev set, and few methods have figures of their own.
        groups = {group: record[group] for group in ("train", "dev", "method") if record.get(group)}
        for group, values in groups.items():
            self.scalars(group, values, record["step"])
        parts = [f"{group} {_figures(values)}" for group, values in groups.items()]
        # Without an alignment, or without a path inside its windows.
        if record.get("unrestricted"):
            parts.append(f"{record['unrestricted']} utterances with the full lattice in place of the restricted one")
        self.say(f"epoch {record['epoch']}, step {record['step']}, lr {record['lr']:.3g}: {'; '.join(parts)}")

    def close(self) -> None:
        """Flush tensorboard."""
        if self._writer is not None:
            with writing(self.exp / "tensorboard"):
                self._writer.close()


def _figures(values: Mapping[str, float]) -> str:
    """Format losses with four digits, and error rates, which are in percent, with two."""
    figures = []
    for name, value in values.items():
        digits = 2 if name.endswith(("/wer", "/per")) else 4
        figures.append(f"{name} {value:.{digits}f}")
    return ", ".join(figures)


def _epoch_of(line: str) -> float:
    """Read the epoch of a log line; a line truncated by a kill belongs to no finished epoch, so it is infinite."""
    try:
        return float(json.loads(line)["epoch"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")
