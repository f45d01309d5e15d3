"""Tied states: classes of units in context (chenones, Le et al. 2019), the frame targets of ``targets: states``.

A unit's state is (left unit, unit, right unit, position in the word). A state with fewer frames than ``min_count`` is
merged into one with less context: first without the right unit, then without the left one, then the unit alone,
whatever its position. Silence is a state of its own. Unlike the decision trees of hybrid systems, this needs no
questions and no acoustic model.

::

    <folder>/states.json    {"units": "characters", "min_count": 200, "made_from": {"train": digest},
                             "states": [{"unit": "<sil>", "count": 4711}, {"left": "▁", "unit": "A", ...}, ...]}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from slimasr.data.identity.digests import digest_of, file_digest
from slimasr.data.timelines.folder import AGAIN, CHARACTERS, alignment_file
from slimasr.data.timelines.timeline import SILENCE_UNIT, WORD_BOUNDARY, Timeline
from slimasr.errors import UserError
from slimasr.files import read_json, understanding, write_json_atomic

STATES_FILE = "states.json"
SILENCE = "<sil>"
NO_STATE = -1
"""Target of frames whose unit never occurred in the sets from which the states were made."""

_ANY = None


@dataclass(frozen=True)
class State:
    """A unit in context; None stands for any context.

    Attributes:
        unit: the unit itself, or `SILENCE`.
        left, right: the units before and behind it, without word boundaries.
        position: ``begin``, ``inside``, ``end`` or ``single`` for units of a word, ``boundary`` for a word boundary.
    """

    unit: str
    left: str | None = _ANY
    right: str | None = _ANY
    position: str | None = _ANY

    def wider(self) -> tuple[State, ...]:
        """This state, then wider ones: without the right unit, without the left one, the unit alone."""
        return (
            self,
            State(self.unit, self.left, _ANY, self.position),
            State(self.unit, _ANY, _ANY, self.position),
            State(self.unit),
        )


@dataclass(frozen=True)
class States:
    """The tied states of some alignments.

    Attributes:
        states: the states; the index in this tuple is the frame target. The first one is silence.
        counts: frames of 10 ms of each state in the sets from which they were made.
        min_count: the fewest frames of a state that depends on its context.
        made_from: name of each of these sets -> digest of its alignments.
    """

    states: tuple[State, ...]
    counts: tuple[int, ...]
    min_count: int
    made_from: Mapping[str, str] = field(default_factory=dict)
    _index: dict[State, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A frozen dataclass sets a derived field in this way.
        object.__setattr__(self, "_index", {state: index for index, state in enumerate(self.states)})

    @property
    def count(self) -> int:
        """Number of states, which is the number of classes of the frame targets."""
        return len(self.states)

    @property
    def fingerprint(self) -> str:
        """Digest of the states, in their order."""
        return digest_of([asdict(state) for state in self.states])

    def of(self, state: State) -> int:
        """The index of the narrowest tied state that a unit in context belongs to, `NO_STATE` if there is none."""
        for candidate in state.wider():
            if candidate in self._index:
                return self._index[candidate]
        return NO_STATE

    def targets(self, timeline: Timeline, factor: int, num_frames: int, speed: float = 1.0) -> np.ndarray:
        """(T',) int64, the state of each encoder frame; arguments as in `Timeline.units_at`."""
        of_units = [self.of(state) for state in states_of(timeline.units)]
        # Index -1, silence, is the last entry.
        assert SILENCE_UNIT == -1 and self.states[0] == State(SILENCE)
        owners = np.asarray([*of_units, 0], dtype=np.int64)
        return np.asarray(owners[timeline.units_at(factor, num_frames, speed)])


def states_of(units: Sequence[str]) -> list[State]:
    """The state of every unit before tying.

    The units before and behind are those of the neighbouring word where a word begins and ends, since words of fluent
    speech run into each other; at the ends of the utterance they are word boundaries.
    """
    found = []
    for index, unit in enumerate(units):
        before = units[index - 1] if index else WORD_BOUNDARY
        behind = units[index + 1] if index + 1 < len(units) else WORD_BOUNDARY
        # Over the boundary to the unit next to it.
        left = units[index - 2] if before == WORD_BOUNDARY and index > 1 else before
        right = units[index + 2] if behind == WORD_BOUNDARY and index + 2 < len(units) else behind
        found.append(State(unit, left, right, _position(before, unit, behind)))
    return found


def _position(before: str, unit: str, behind: str) -> str:
    if unit == WORD_BOUNDARY:
        return "boundary"
    first, last = before == WORD_BOUNDARY, behind == WORD_BOUNDARY
    if first and last:
        return "single"
    return "begin" if first else "end" if last else "inside"


def build_states(timelines: Iterable[Timeline], min_count: int, made_from: Mapping[str, str] | None = None) -> States:
    """Tie the states of some timelines; the result depends on nothing but their content.

    Args:
        min_count: frames of 10 ms that a state in context needs.
        made_from: see `States`.

    Raises:
        UserError: there is no alignment, or no state in context has ``min_count`` frames.
    """
    counts = _count(timelines)
    silence = counts.pop(State(SILENCE), 0)
    if not counts:
        raise UserError("--states: no utterance of the training sets has an alignment")
    kept: dict[State, int] = {}
    left_over = counts
    for step in (1, 2, 3):
        kept |= {state: count for state, count in left_over.items() if count >= min_count}
        pooled: Counter[State] = Counter()
        for state, count in left_over.items():
            # A unit alone has a state in any case, for contexts that have not occurred.
            pooled[state.wider()[step]] += 0 if count >= min_count else count
            pooled[State(state.unit)] += 0
        left_over = pooled
    in_context = sum(state.position is not _ANY for state in kept)
    if not in_context:
        raise UserError(
            f"--min-count {min_count}: no unit in context has so many frames, the most frequent one has "
            f"{max(counts.values())}; choose a smaller number"
        )
    kept |= left_over
    ordered = sorted(kept, key=lambda state: tuple(value or "" for value in asdict(state).values()))
    states = (State(SILENCE), *ordered)
    return States(states, (silence, *(kept[state] for state in ordered)), min_count, made_from or {})


def _count(timelines: Iterable[Timeline]) -> Counter[State]:
    """Frames of 10 ms of every state before tying, and of silence."""
    counts: Counter[State] = Counter()
    for timeline in timelines:
        if not timeline.aligned:
            continue
        lengths = (timeline.ends - timeline.starts).tolist()
        for state, length in zip(states_of(timeline.units), lengths, strict=True):
            # Units that never have a frame, as word boundaries may be, need no state.
            if length:
                counts[state] += length
        counts[State(SILENCE)] += timeline.frames - sum(lengths)
    return counts


def write_states(folder: Path, states: States) -> None:
    """Write ``states.json``."""
    described = [
        {key: value for key, value in asdict(state).items() if value is not None} | {"count": count}
        for state, count in zip(states.states, states.counts, strict=True)
    ]
    tree = {
        "units": CHARACTERS,
        "min_count": states.min_count,
        "made_from": dict(states.made_from),
        "states": described,
    }
    write_json_atomic(folder / STATES_FILE, tree)


def read_states(folder: Path) -> States:
    """Read ``states.json`` from a folder of alignments or from an experiment's copy.

    Raises:
        UserError: it is missing or damaged.
    """
    path = folder / STATES_FILE
    if not folder.is_dir():
        raise UserError(f"{folder} is missing: run slimasr-align with --states first, or name another folder")
    if not path.is_file():
        raise UserError(f"{path} is missing: run slimasr-align with --states")
    advice = "run slimasr-align with --states again"
    tree: dict[str, Any] = read_json(path, advice)
    with understanding(path, advice):
        items = [dict(item) for item in tree["states"]]
        counts = tuple(int(item.pop("count")) for item in items)
        states = tuple(State(**item) for item in items)
        if not states or states[0] != State(SILENCE) or len(set(states)) != len(states):
            raise ValueError("the first state needs to be silence, and no state may occur twice")
        return States(states, counts, int(tree["min_count"]), dict(tree["made_from"]))


def digests_of_alignments(folder: Path, set_names: Iterable[str]) -> dict[str, str]:
    """Digests of the files from which states are made, by set."""
    return {name: file_digest(alignment_file(folder, name)) for name in set_names}


def check_states(folder: Path, states: States) -> None:
    """Compare states with the alignments in their folder.

    Raises:
        UserError: the states were made from other alignments.
    """
    try:
        same = states.made_from == digests_of_alignments(folder, states.made_from)
    except OSError:
        same = False
    if not same:
        raise UserError(f"{folder / STATES_FILE}: was made from other alignments; {AGAIN} with --states")
