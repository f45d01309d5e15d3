"""Which encoder frame emits which token, as ``slimasr-align`` finds out and frame targets need it.

::

    <folder>/train.jsonl           {"id": "utt1", "frames": [3, 7, 7]}, one line per utterance
             train_sp0.9.jsonl     the same set at another speed
             alignments.json       by which model, at how many feature frames per encoder frame
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slimasr.data.files import speed_suffix
from slimasr.errors import UserError
from slimasr.files import read_json, write_atomic, write_json_atomic

FACTS = "alignments.json"


@dataclass(frozen=True)
class Alignments:
    """Alignments of some sets at some speeds.

    Attributes:
      folder: where they come from.
      frames: speed -> utterance id -> (U,) encoder frame of each token, -1 where the utterance has no alignment.
    """

    folder: Path
    frames: Mapping[float, Mapping[str, np.ndarray]]

    def of(self, name: str, speed: float = 1.0) -> np.ndarray:
        """The frames of one utterance.

        Raises:
          UserError: it is not among them.
        """
        found = self.frames[speed].get(name)
        if found is None:
            at = "" if speed == 1.0 else f" at speed {speed:g}"
            raise UserError(f"{name}: has no alignment{at} in {self.folder}; run slimasr-align on its set again")
        return found

    def require(self, names: Iterable[str]) -> None:
        """Raise `UserError` unless these utterances are there at every speed."""
        for name in names:
            for speed in self.frames:
                self.of(name, speed)


def alignment_file(folder: Path, set_name: str, speed: float = 1.0) -> Path:
    """The file of one set at one speed."""
    return folder / f"{set_name}{speed_suffix(speed)}.jsonl"


def write_alignments(path: Path, frames: Mapping[str, Sequence[int]]) -> None:
    """Write utterance id -> encoder frames of its tokens, whole or not at all."""
    lines = (json.dumps({"id": name, "frames": list(chosen)}, ensure_ascii=False) for name, chosen in frames.items())
    write_atomic(path, "".join(f"{line}\n" for line in lines))


def write_facts(folder: Path, subsampling_factor: int, subnet: str, checkpoint: str) -> None:
    """Note what made a folder's alignments; `check_frame_rate` looks at the number of frames that became one."""
    facts = {"subsampling_factor": subsampling_factor, "subnet": subnet, "checkpoint": checkpoint}
    write_json_atomic(folder / FACTS, facts)


def read_alignments(folder: Path, set_names: Iterable[str], speeds: Sequence[float] = (1.0,)) -> Alignments:
    """Read the alignments of sets, all of them at all these speeds.

    Raises:
      UserError: a file is missing or damaged.
    """
    frames: dict[float, dict[str, np.ndarray]] = {speed: {} for speed in speeds}
    for set_name in set_names:
        for speed in speeds:
            frames[speed].update(_read(alignment_file(folder, set_name, speed)))
    return Alignments(folder, frames)


def check_frame_rate(folder: Path, subsampling_factor: int) -> None:
    """Compare the frame rate of alignments with that of a model.

    Raises:
      UserError: they differ, or ``slimasr-align`` has not run.
    """
    path = folder / FACTS
    if not path.is_file():
        raise _missing(path)
    facts: dict[str, Any] = read_json(path, "run slimasr-align again")
    made = facts.get("subsampling_factor")
    if made != subsampling_factor:
        raise UserError(
            f"{path}: aligned at {made} feature frames per encoder frame, this model has {subsampling_factor}; "
            "align with an experiment of the same front end"
        )


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise _missing(path)
    found: dict[str, np.ndarray] = {}
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            frames = np.asarray(item["frames"], dtype=np.int64)
            if not isinstance(item["id"], str) or frames.ndim != 1:
                raise ValueError
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise UserError(f"{path}: line {number} is not an alignment; run slimasr-align again") from None
        found[item["id"]] = frames
    return found


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); run slimasr-align again") from None


def _missing(path: Path) -> UserError:
    return UserError(f"{path} is missing: run slimasr-align with the experiment whose alignments these are")
