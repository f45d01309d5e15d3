"""Alignments: the encoder frame that emits each token. ``slimasr-align`` writes them, and frame targets need them.

::

    <folder>/train.jsonl           {"id": "utt1", "frames": [3, 7, 7]}, one line per utterance
             train_sp0.9.jsonl     the same set at another speed
             alignments.json       which model made them, and its feature frames per encoder frame
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slimasr.data.files import speed_suffix
from slimasr.errors import UserError
from slimasr.files import read_json, to_json, write_atomic, write_json_atomic
from slimasr.textfiles import read_lines

FACTS = "alignments.json"
AGAIN = "run slimasr-align again"


@dataclass(frozen=True)
class Alignments:
    """Alignments of some sets at some speeds.

    Attributes:
        folder: the folder they were read from.
        frames: speed -> utterance id -> (U,) encoder frame of each token, -1 if the utterance has no alignment.
    """

    folder: Path
    frames: Mapping[float, Mapping[str, np.ndarray]]

    def of(self, name: str, speed: float = 1.0) -> np.ndarray:
        """The frames of one utterance.

        Raises:
            UserError: the utterance has no alignment.
        """
        found = self.frames[speed].get(name)
        if found is None:
            at = "" if speed == 1.0 else f" at speed {speed:g}"
            raise UserError(f"{name}: has no alignment{at} in {self.folder}; run slimasr-align on its set again")
        return found

    def require(self, names: Iterable[str]) -> None:
        """Raise `UserError` unless these utterances have alignments at every speed."""
        for name in names:
            for speed in self.frames:
                self.of(name, speed)


def alignment_file(folder: Path, set_name: str, speed: float = 1.0) -> Path:
    """The file that holds the alignments of one set at one speed."""
    return folder / f"{set_name}{speed_suffix(speed)}.jsonl"


def write_alignments(path: Path, frames: Mapping[str, Sequence[int]]) -> None:
    """Write utterance id -> encoder frames of its tokens, as one atomic replacement of the file."""
    lines = (to_json({"id": name, "frames": list(chosen)}) for name, chosen in frames.items())
    write_atomic(path, "".join(f"{line}\n" for line in lines))


@dataclass(frozen=True)
class Origin:
    """What made a folder's alignments.

    Attributes:
        subsampling_factor: feature frames per encoder frame.
        subnet: id of the subnet that made the alignments.
        checkpoint: name of its checkpoint.
        tokenizer: fingerprint of the tokenizer whose tokens were aligned.
    """

    subsampling_factor: int
    subnet: str
    checkpoint: str
    tokenizer: str


def write_facts(folder: Path, origin: Origin, sets: Mapping[str, str]) -> None:
    """Record what made a folder's alignments, for `check_frame_rate` and `check_aligned_sets`.

    Sets that were aligned earlier in the same way keep their entries.

    Args:
        sets: name of each set that is aligned now -> its fingerprint (`slimasr.data.identity.Identity`).
    """
    path = folder / FACTS
    made_by = asdict(origin)
    before: dict[str, Any] = read_json(path, "remove it and run slimasr-align again") if path.is_file() else {}
    # Alignments by another model replace the older ones, so that a folder has a single origin.
    same = all(before.get(key) == value for key, value in made_by.items())
    earlier = before.get("sets", {}) if same else {}
    write_json_atomic(path, {**made_by, "sets": {**earlier, **sets}})


def check_aligned_sets(folder: Path, tokenizer: str, sets: Mapping[str, str]) -> None:
    """Compare the tokenizer and sets of alignments with those of a training run.

    Alignments written by older versions do not name theirs and pass.

    Args:
        tokenizer: fingerprint of the training's tokenizer.
        sets: name of each set whose alignments are read -> its fingerprint.

    Raises:
        UserError: they differ.
    """
    facts: dict[str, Any] = read_json(folder / FACTS, AGAIN)
    # The default is the expected value: what an older version did not record counts as equal.
    if facts.get("tokenizer", tokenizer) != tokenizer:
        raise UserError(f"{folder}: was aligned with another tokenizer; align with an experiment that has this one")
    for name, fingerprint in sets.items():
        if facts.get("sets", {}).get(name, fingerprint) != fingerprint:
            raise UserError(f"{folder}: was made from other transcripts or audio of {name}; run slimasr-align again")


def read_alignments(folder: Path, set_names: Iterable[str], speeds: Sequence[float] = (1.0,)) -> Alignments:
    """Read the alignments of every set at every speed.

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
    facts: dict[str, Any] = read_json(path, AGAIN)
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
    for line in read_lines(path):
        try:
            item = json.loads(line.text)
            frames = np.asarray(item["frames"], dtype=np.int64)
            # OverflowError comes from numbers above int64, RecursionError from deeply nested lists.
            if not isinstance(item["id"], str) or frames.ndim != 1:
                raise ValueError
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise UserError(f"{path}: line {line.number} is not an alignment; run slimasr-align again") from None
        found[item["id"]] = frames
    return found


def _missing(path: Path) -> UserError:
    return UserError(f"{path} is missing: run slimasr-align with the experiment that should make these alignments")
