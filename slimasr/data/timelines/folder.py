"""Folders of alignments: when each unit of a transcript is spoken. ``slimasr-align`` writes them.

::

    <folder>/train.jsonl       one line per utterance: {"id": "utt1", "frames": 95, "units": "\u2581 h i",
                               "starts": [0, 12, 31], "ends": [12, 20, 48]}
             alignments.json   the kind of units, what made the alignments, and the sets
             states.json       tied states, if they were asked for (`slimasr.data.timelines.states`)

Times are in frames of 10 ms at natural speed (`slimasr.data.timelines.timeline`); an utterance for which no alignment
was found has no "starts" and "ends".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slimasr.data.features.frames import FRAME_SHIFT, feature_frames
from slimasr.data.timelines.timeline import Timeline, units_of
from slimasr.errors import UserError
from slimasr.files import read_json, to_json, write_atomic, write_json_atomic
from slimasr.textfiles import read_lines

FACTS = "alignments.json"
AGAIN = "run slimasr-align again"
CHARACTERS = "characters"
"""The kind of units: characters of the transcript, with a word boundary in front of every word."""

_SLACK = 2
"""Durations of the same audio may differ by so many frames from rounding, for example after a change of speed."""


@dataclass(frozen=True)
class Alignments:
    """Alignments of some sets.

    Attributes:
        folder: the folder they were read from.
        timelines: utterance id -> its timeline.
    """

    folder: Path
    timelines: Mapping[str, Timeline]

    def of(self, name: str) -> Timeline:
        """The timeline of one utterance; it has no times if no alignment was found.

        Raises:
            UserError: the utterance is missing.
        """
        found = self.timelines.get(name)
        if found is None:
            raise UserError(f"{name}: is not in the alignments of {self.folder}; run slimasr-align on its set again")
        return found

    def check(self, name: str, text: str, seconds: float) -> None:
        """Compare an utterance's timeline with its transcript and its duration at natural speed.

        Raises:
            UserError: the utterance is missing, or its alignment is that of another transcript or of longer audio.
        """
        timeline = self.of(name)
        if timeline.units != units_of(text):
            raise UserError(
                f"{name}: its alignment in {self.folder} has another transcript; run slimasr-align on its set again"
            )
        frames = feature_frames(seconds)
        if timeline.frames > frames + _SLACK:
            raise UserError(
                f"{name}: its alignment in {self.folder} goes beyond its audio ({timeline.frames} frames of 10 ms, the "
                f"audio has {frames}); run slimasr-align on its set again"
            )

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of these utterances for which no alignment was found."""
        return [name for name in names if not self.of(name).aligned]


@dataclass(frozen=True)
class Origin:
    """What made a folder's alignments.

    Attributes:
        source: ``ctc``, ``transducer`` or ``ctm``.
        made_by: the experiment, subnet and checkpoint that aligned, or the name and digest of the CTM file.
        realign: number of realignments with a frame classifier.
        units: kind of the units.
        frame_seconds: unit of the times.
    """

    source: str
    made_by: str
    realign: int = 0
    units: str = CHARACTERS
    frame_seconds: float = FRAME_SHIFT


def alignment_file(folder: Path, set_name: str) -> Path:
    """The file that holds the alignments of one set."""
    return folder / f"{set_name}.jsonl"


def write_alignments(path: Path, timelines: Mapping[str, Timeline]) -> None:
    """Write the timelines of a set's utterances, as one atomic replacement of the file."""
    write_atomic(path, "".join(f"{to_json(_line_of(name, found))}\n" for name, found in timelines.items()))


def _line_of(name: str, timeline: Timeline) -> dict[str, Any]:
    line: dict[str, Any] = {"id": name, "frames": timeline.frames, "units": " ".join(timeline.units)}
    if timeline.aligned:
        line |= {"starts": timeline.starts.tolist(), "ends": timeline.ends.tolist()}
    return line


def read_alignments(folder: Path, set_names: Iterable[str]) -> Alignments:
    """Read the alignments of some sets.

    Raises:
        UserError: the folder is missing or of an older version, a file is missing, empty or damaged, or an alignment
            is impossible; the message names the utterance.
    """
    read_facts(folder)
    timelines: dict[str, Timeline] = {}
    for set_name in set_names:
        timelines.update(_read(alignment_file(folder, set_name)))
    return Alignments(folder, timelines)


def read_facts(folder: Path) -> dict[str, Any]:
    """Read what ``alignments.json`` says: the fields of `Origin`, and under "sets" the fingerprint of each set.

    Raises:
        UserError: it is missing or damaged, or an older version wrote it.
    """
    path = folder / FACTS
    if not path.is_file():
        raise UserError(f"{path} is missing: run slimasr-align first, or name another folder")
    facts: dict[str, Any] = read_json(path, AGAIN)
    if "units" not in facts or not isinstance(facts.get("sets"), dict):
        raise UserError(f"{path}: an older version made these alignments, for one model only; {AGAIN}")
    if facts["units"] != CHARACTERS or facts.get("frame_seconds") != FRAME_SHIFT:
        raise UserError(f"{path}: needs times of {CHARACTERS} in frames of {FRAME_SHIFT:g} s; {AGAIN}")
    return facts


def write_facts(folder: Path, origin: Origin, sets: Mapping[str, str]) -> None:
    """Record what made a folder's alignments, for `check_aligned_sets`.

    Sets that were aligned earlier in the same way keep their entries. Alignments of another origin replace the older
    ones, so that a folder has a single origin.

    Args:
        sets: name of each set that is aligned now -> its fingerprint (`slimasr.data.identity.digests.Identity`).
    """
    path = folder / FACTS
    made_by = asdict(origin)
    before: dict[str, Any] = read_json(path, f"remove it and {AGAIN}") if path.is_file() else {}
    same = all(before.get(key) == value for key, value in made_by.items())
    earlier = before.get("sets", {}) if same else {}
    write_json_atomic(path, {**made_by, "sets": {**earlier, **sets}})


def forget_set(folder: Path, name: str) -> None:
    """Remove a set from what a folder records, before its file is replaced: a crash leaves no record of old times."""
    path = folder / FACTS
    if path.is_file():
        facts: dict[str, Any] = read_json(path, f"remove it and {AGAIN}")
        left = {other: made for other, made in facts.get("sets", {}).items() if other != name}
        write_json_atomic(path, {**facts, "sets": left})


def check_aligned_sets(folder: Path, sets: Mapping[str, str]) -> None:
    """Compare the sets of alignments with those of a training run.

    Args:
        sets: name of each set whose alignments are read -> its fingerprint.

    Raises:
        UserError: a set is missing, or its transcripts or audio are not those that were aligned.
    """
    aligned = read_facts(folder)["sets"]
    for name, fingerprint in sets.items():
        if name not in aligned:
            there = ", ".join(aligned) or "no set"
            raise UserError(f"{folder}: has alignments of {there}, not of {name}: run slimasr-align --set-name {name}")
        if aligned[name] != fingerprint:
            raise UserError(f"{folder}: was made from other transcripts or audio of {name}; {AGAIN}")


def _read(path: Path) -> dict[str, Timeline]:
    if not path.is_file():
        raise UserError(f"{path} is missing: run slimasr-align --set-name {path.stem}")
    found: dict[str, Timeline] = {}
    for line in read_lines(path):
        try:
            item = json.loads(line.text)
            name = item["id"]
            timeline = _parse(item)
            if not isinstance(name, str):
                raise ValueError
        # OverflowError comes from numbers above int64, RecursionError from deeply nested lists.
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise UserError(f"{path}: line {line.number} is not an alignment; {AGAIN}") from None
        fault = impossible(timeline) if name not in found else "is in the file twice"
        if fault is not None:
            raise UserError(f"{path}: line {line.number}: {name}: {fault}; {AGAIN}")
        found[name] = timeline
    if not found:
        raise UserError(f"{path}: is empty; {AGAIN}")
    return found


def _parse(item: Mapping[str, Any]) -> Timeline:
    starts, ends = (_frames_of(item.get(key, [])) for key in ("starts", "ends"))
    if starts.ndim != 1 or starts.shape != ends.shape or not isinstance(item["frames"], int):
        raise ValueError
    return Timeline(tuple(item["units"].split(" ")) if item["units"] else (), starts, ends, item["frames"])


def _frames_of(numbers: Sequence[int]) -> np.ndarray:
    if not all(isinstance(number, int) for number in numbers):
        raise ValueError
    return np.asarray(numbers, dtype=np.int64)


def impossible(timeline: Timeline) -> str | None:
    """What is wrong with the times of an utterance, or None."""
    starts, ends = timeline.starts, timeline.ends
    if not timeline.aligned:
        return None
    if len(starts) != len(timeline.units):
        return f"has {len(timeline.units)} units and times of {len(starts)}"
    faults: Sequence[tuple[np.ndarray, str]] = (
        (starts < 0, "starts before frame 0"),
        (ends < starts, "ends before it starts"),
        (np.append(starts[1:] < ends[:-1], False), "overlaps with the next unit"),
        (ends > timeline.frames, f"ends behind the {timeline.frames} frames of the utterance"),
    )
    for wrong, what in faults:
        if wrong.any():
            index = int(np.argmax(wrong))
            return f"unit {index + 1} ({timeline.units[index]}, frames {starts[index]} to {ends[index]}) {what}"
    return None
