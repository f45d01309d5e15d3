"""Tied states: backing off by hand, every frame in exactly one state, the same states in any order."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from slimasr.data.timelines.folder import Origin, alignment_file, write_alignments, write_facts
from slimasr.data.timelines.states import (
    NO_STATE,
    SILENCE,
    State,
    build_states,
    check_states,
    digests_of_alignments,
    read_states,
    states_of,
    write_states,
)
from slimasr.data.timelines.timeline import Timeline, units_of
from slimasr.errors import UserError

WORDS = ("ONE", "NINE", "NO", "A", "TEN")


def timeline(text: str, lengths: list[int], silence: int = 0) -> Timeline:
    """Units of these lengths, one after the other behind some silence; word boundaries have no frame."""
    inner = iter(lengths)
    ends = np.cumsum([0 if unit == "▁" else next(inner) for unit in units_of(text)]) + silence
    return Timeline(units_of(text), np.concatenate([[silence], ends[:-1]]), ends, int(ends[-1]))


def random_timelines(count: int) -> list[Timeline]:
    rng = random.Random(0)
    found = []
    for _ in range(count):
        text = " ".join(rng.choices(WORDS, k=rng.randint(1, 4)))
        found.append(timeline(text, [rng.randint(1, 9) for _ in text], rng.randint(0, 5)))
    return found


def test_units_in_context() -> None:
    found = states_of(units_of("NO A"))
    assert found == [
        State("▁", "▁", "N", "boundary"),
        State("N", "▁", "O", "begin"),
        State("O", "N", "A", "end"),
        State("▁", "O", "A", "boundary"),
        State("A", "O", "▁", "single"),
    ]
    assert states_of(units_of("TEN"))[2] == State("E", "T", "N", "inside")
    assert states_of(units_of("A B C"))[3] == State("B", "A", "C", "single")


def test_backing_off_by_hand() -> None:
    """At least 10 frames: E in N_N and N_T lack them but not N_*; E in T_N and S_N only together, inside a word."""
    lengths = {"NENA": (20, 8, 30, 40), "NETA": (20, 7, 30, 40), "TENA": (20, 6, 30, 40), "SENA": (20, 5, 30, 3)}
    states = build_states([timeline(text, list(row), 2) for text, row in lengths.items()], 10)
    counts = dict(zip(states.states, states.counts, strict=True))
    assert counts[State(SILENCE)] == 8
    assert counts[State("E", "N", None, "inside")] == 15
    assert counts[State("E", None, None, "inside")] == 11
    assert counts[State("E")] == 0
    assert counts[State("A", "N", "▁", "end")] == 40 + 40 + 3
    assert not [state for state in counts if state.unit == "E" and state.right is not None]
    # A context that has not occurred has the widest state that fits.
    assert states.states[states.of(State("E", "N", "X", "inside"))] == State("E", "N", None, "inside")
    assert states.states[states.of(State("E", "▁", "X", "begin"))] == State("E")
    assert states.of(State("Q", "A", "B", "inside")) == NO_STATE


@pytest.mark.parametrize("min_count", [1, 20, 60])
def test_every_frame_has_exactly_one_state(min_count: int) -> None:
    timelines = random_timelines(40)
    states = build_states(timelines, min_count)
    found = np.concatenate([states.targets(item, 1, item.frames) for item in timelines])
    assert np.bincount(found, minlength=states.count).tolist() == list(states.counts)
    small = [state for state, count in zip(states.states, states.counts, strict=True) if count < min_count]
    assert all(state.position is None for state in small), "only units alone may have fewer frames"
    assert len(set(states.states)) == states.count


def test_the_target_of_an_encoder_frame_is_the_state_in_its_middle() -> None:
    timelines = random_timelines(10)
    states = build_states(timelines, 15)
    for item in timelines:
        fine = states.targets(item, 1, item.frames)
        frames = -(-item.frames // 4)
        expected = [fine[min(4 * t + 2, item.frames - 1)] for t in range(frames)]
        assert states.targets(item, 4, frames).tolist() == expected


def test_building_depends_on_the_content_alone() -> None:
    timelines = random_timelines(30)
    states = build_states(timelines, 25)
    random.Random(3).shuffle(timelines)
    assert build_states(timelines, 25) == states
    assert build_states(timelines, 100).fingerprint != states.fingerprint


def written(tmp_path: Path) -> None:
    timelines = random_timelines(20)
    write_alignments(alignment_file(tmp_path, "train"), {f"utt{n}": item for n, item in enumerate(timelines)})
    write_facts(tmp_path, Origin("ctc", "test"), {"train": "a"})
    write_states(tmp_path, build_states(timelines, 10, digests_of_alignments(tmp_path, ["train"])))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written(tmp_path)
    states = read_states(tmp_path)
    assert states == build_states(random_timelines(20), 10, digests_of_alignments(tmp_path, ["train"]))
    assert sum(states.counts) == sum(item.frames for item in random_timelines(20))
    check_states(tmp_path, states)


def test_states_of_other_alignments_are_refused(tmp_path: Path) -> None:
    written(tmp_path)
    write_alignments(alignment_file(tmp_path, "train"), {"utt0": random_timelines(1)[0]})
    with pytest.raises(UserError, match=r"states.json: was made from other alignments; run slimasr-align again"):
        check_states(tmp_path, read_states(tmp_path))


@pytest.mark.parametrize("damage", ["[]", '{"states": []}', "states", "twice"])
def test_damaged_states(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "states.json"
    with pytest.raises(UserError, match="states.json is missing: run slimasr-align with --states"):
        read_states(tmp_path)
    written(tmp_path)
    if damage == "twice":
        tree = json.loads(path.read_text())
        damage = json.dumps({**tree, "states": tree["states"] * 2})
    path.write_text(damage)
    with pytest.raises(UserError, match=r"states.json: .*; run slimasr-align with --states again"):
        read_states(tmp_path)


def test_a_count_above_all_is_refused() -> None:
    with pytest.raises(UserError, match=r"^--min-count 100000: no unit in context has so many frames, .* has \d+;"):
        build_states(random_timelines(5), 100000)
    with pytest.raises(UserError, match="no utterance of the training sets has an alignment"):
        build_states([], 1)
