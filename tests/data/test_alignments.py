"""Alignments on their way from files into batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from slimasr.config.loss import AuxiliaryConfig
from slimasr.config.schema import Config
from slimasr.data.features.frames import feature_frames
from slimasr.data.files import DataFolder
from slimasr.data.memory.dataloading import eval_batches
from slimasr.data.memory.sampling import speed_of
from slimasr.data.memory.training_cuts import read_feature_cuts
from slimasr.data.timelines.folder import (
    Origin,
    alignment_file,
    check_aligned_sets,
    read_alignments,
    write_alignments,
    write_facts,
)
from slimasr.data.timelines.states import build_states, digests_of_alignments, write_states
from slimasr.data.timelines.timeline import Timeline, units_of, without_times
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.errors import UserError
from tests.data.corpus import batch_source, config, encoder_frames

SPEEDS = [0.9, 1.0, 1.1]
Prepared = tuple[Path, Tokenizer]
Times = dict[str, Timeline]


def recipe(folder: Path, targets: str = "tokens", **data: object) -> Config:
    """Both kinds of losses that need alignments."""
    made = config(speeds=SPEEDS, **data)
    auxiliary = AuxiliaryConfig.model_validate({"layers": [1], "targets": targets})
    changes = {"auxiliary": auxiliary, "transducer": "restricted", "alignments": folder}
    return made.model_copy(update={"loss": made.loss.model_copy(update=changes)})


@pytest.fixture
def aligned(prepared: Prepared, tmp_path: Path) -> tuple[Path, Times]:
    """A folder of made-up alignments of the train and dev sets with their states, and what is in it."""
    data_dir, _ = prepared
    rng, everything = np.random.default_rng(0), {}
    for set_name in ("train", "dev"):
        found = {}
        for cut in read_feature_cuts(DataFolder(data_dir), set_name):
            units, frames = units_of(cut.supervisions[0].text), feature_frames(cut.duration)
            bounds = np.sort(rng.integers(0, frames + 1, 2 * len(units)))
            found[cut.id] = Timeline(units, bounds[::2], bounds[1::2], frames)
        write_alignments(alignment_file(tmp_path, set_name), found)
        everything |= found
    write_facts(tmp_path, Origin("ctc", "test"), {"train": "a", "dev": "b"})
    states = build_states(read_alignments(tmp_path, ["train"]).timelines.values(), 30)
    write_states(
        tmp_path, states.__class__(states.states, states.counts, 30, digests_of_alignments(tmp_path, ["train"]))
    )
    return tmp_path, everything


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_carry_ends_and_targets_of_the_speed_they_are_heard_at(
    prepared: Prepared, aligned: tuple[Path, Times], num_workers: int
) -> None:
    folder, times = aligned
    tokenizer = prepared[1]
    source = batch_source(recipe(folder, num_workers=num_workers), *prepared, seed=7)
    speeds = set()
    for batch in source.train_batches(2, skip=1):
        assert batch.ends is not None and batch.ends.shape == batch.y.shape
        assert batch.targets is not None
        assert batch.targets.shape == (len(batch), encoder_frames(int(batch.x_lens.max())))
        for row, name in enumerate(batch.ids):
            speed, tokens = speed_of(name, SPEEDS, 7, 2), int(batch.y_lens[row])
            frames = encoder_frames(int(batch.x_lens[row]))
            speeds.add(speed)
            # A tokenizer of single characters: every token is one unit.
            ids, counts = tokenizer.encode(batch.texts[row]), [1] * tokens
            expected = times[name].token_ends(counts, 4, frames, speed)
            assert batch.ends[row].tolist() == expected.tolist() + [-1] * (batch.y.shape[1] - tokens)
            targets = times[name].token_targets(ids, counts, 4, frames, speed)
            assert batch.targets[row].tolist() == targets.tolist() + [-1] * (batch.targets.shape[1] - frames)
    assert speeds == set(SPEEDS)


def test_states_are_targets_where_the_recipe_says_so(prepared: Prepared, aligned: tuple[Path, Times]) -> None:
    folder, times = aligned
    states = json.loads((folder / "states.json").read_text())["states"]
    for batch in eval_batches(recipe(folder, "states"), prepared[0], "dev", prepared[1], 10.0, aligned=True):
        assert batch.targets is not None
        for row, name in enumerate(batch.ids):
            item = times[name]
            for t in range(encoder_frames(int(batch.x_lens[row]))):
                moment = min(4 * t + 2, item.frames - 1)
                spoken = [u for u in range(len(item.units)) if item.starts[u] <= moment < item.ends[u]]
                state = states[int(batch.targets[row, t])]
                assert state["unit"] == (item.units[spoken[0]] if spoken else "<sil>")


def test_worst_batches_are_aligned_at_the_lowest_speed(prepared: Prepared, aligned: tuple[Path, Times]) -> None:
    folder, times = aligned
    for batch in batch_source(recipe(folder), *prepared).worst_batches():
        assert batch.ends is not None
        for row, name in enumerate(batch.ids):
            tokens = int(batch.y_lens[row])
            expected = times[name].token_ends([1] * tokens, 4, encoder_frames(int(batch.x_lens[row])), 0.9)
            assert batch.ends[row, :tokens].tolist() == expected.tolist()


def test_only_what_a_loss_needs_and_only_where_asked(prepared: Prepared, aligned: tuple[Path, Times]) -> None:
    folder = aligned[0]
    both = recipe(folder)
    for changes, ends, targets in ({"auxiliary": None}, True, False), ({"transducer": "full"}, False, True):
        made = both.model_copy(update={"loss": both.loss.model_copy(update=changes)})
        for batch in eval_batches(made, prepared[0], "dev", prepared[1], 10.0, aligned=True):
            assert (batch.ends is not None, batch.targets is not None) == (ends, targets)
    plain = [
        *eval_batches(both, prepared[0], "test", prepared[1], 10.0),
        *batch_source(config(), *prepared).train_batches(1),
    ]
    assert all(batch.ends is None and batch.targets is None for batch in plain)


def test_an_utterance_without_times_has_no_ends_and_no_targets(prepared: Prepared, aligned: tuple[Path, Times]) -> None:
    folder, times = aligned
    train = {name: item for name, item in times.items() if not name.startswith("speakere-")}
    lost = next(iter(train))
    text = "".join(train[lost].units).replace("▁", " ")
    write_alignments(alignment_file(folder, "train"), train | {lost: without_times(text, train[lost].frames)})
    source = batch_source(recipe(folder), *prepared)
    assert source.unaligned == (lost,)
    rows = [(batch, batch.ids.index(lost)) for batch in source.train_batches(1) if lost in batch.ids]
    for batch, row in rows:
        assert batch.ends is not None and batch.targets is not None
        assert batch.ends[row].eq(-1).all() and batch.targets[row].eq(-1).all()
    assert len(rows) == 1


@pytest.mark.parametrize("set_name", ["train", "dev"])
def test_an_utterance_that_is_missing_is_named(prepared: Prepared, aligned: tuple[Path, Times], set_name: str) -> None:
    folder = aligned[0]
    path = alignment_file(folder, set_name)
    *kept, last = path.read_text().splitlines(keepends=True)
    path.write_text("".join(kept))
    name = json.loads(last)["id"]
    with pytest.raises(UserError, match=rf"^{name}: is not in the alignments of .*; run slimasr-align on its set"):
        batch_source(recipe(folder), *prepared)
    path.write_text("".join(kept) + "{}\n")
    with pytest.raises(UserError, match=rf"{path.name}: line {len(kept) + 1} is not an alignment; run slimasr-align"):
        batch_source(recipe(folder), *prepared)
    twice = json.loads(kept[0])
    path.write_text("".join([*kept, kept[0]]))
    with pytest.raises(UserError, match=rf"{path.name}: line {len(kept) + 1}: {twice['id']}: is in the file twice"):
        batch_source(recipe(folder), *prepared)
    path.write_text(json.dumps({**twice, "starts": [0.5], "ends": [1.5]}) + "\n")
    with pytest.raises(UserError, match=rf"{path.name}: line 1 is not an alignment; run slimasr-align"):
        batch_source(recipe(folder), *prepared)
    path.write_text("")
    with pytest.raises(UserError, match=rf"{path.name}: is empty; run slimasr-align again"):
        batch_source(recipe(folder), *prepared)
    path.unlink()
    with pytest.raises(UserError, match=rf"{path.name} is missing: run slimasr-align --set-name {set_name}"):
        batch_source(recipe(folder), *prepared)


def _shorten(item: dict[str, list[int]]) -> None:
    item["starts"].pop()
    item["ends"].pop()


FAULTS: dict[str, tuple[Callable[[dict[str, list[int]]], None], str]] = {
    "end before start": (
        lambda item: item["starts"].__setitem__(1, item["ends"][1] + 1),
        "unit 2 .* ends before it starts",
    ),
    "overlap": (
        lambda item: item["starts"].__setitem__(1, item["ends"][0] - 1),
        "unit 1 .* overlaps with the next unit",
    ),
    "beyond": (lambda item: item["ends"].__setitem__(-1, 10**6), r"unit \d+ .* ends behind the \d+ frames"),
    "negative": (lambda item: item["starts"].__setitem__(0, -1), "unit 1 .* starts before frame 0"),
    "lengths": (_shorten, r"has \d+ units and times of \d+"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_impossible_times_name_the_utterance(prepared: Prepared, aligned: tuple[Path, Times], fault: str) -> None:
    change, message = FAULTS[fault]
    path = alignment_file(aligned[0], "train")
    first, *others = path.read_text().splitlines()
    item = json.loads(first)
    # Far enough from each other for every fault.
    count = len(item["units"].split())
    item["starts"], item["ends"] = [2 * n for n in range(count)], [2 * n + 1 for n in range(count)]
    change(item)
    path.write_text("\n".join([json.dumps(item), *others]) + "\n")
    with pytest.raises(UserError, match=rf"train.jsonl: line 1: {item['id']}: {message}.*; run slimasr-align again"):
        batch_source(recipe(aligned[0]), *prepared)


def test_alignments_of_other_transcripts_or_longer_audio_are_refused(
    prepared: Prepared, aligned: tuple[Path, Times]
) -> None:
    folder, times = aligned
    path = alignment_file(folder, "train")
    text = path.read_text()
    first = json.loads(text.splitlines()[0])
    path.write_text(text.replace(first["units"], first["units"][:-1] + "Q", 1))
    with pytest.raises(UserError, match=rf"{first['id']}: its alignment in .* has another transcript"):
        batch_source(recipe(folder), *prepared)
    path.write_text(text.replace(f'"frames": {first["frames"]}', f'"frames": {first["frames"] + 50}', 1))
    with pytest.raises(UserError, match=rf"{first['id']}: its alignment in .* goes beyond its audio"):
        batch_source(recipe(folder), *prepared)
    assert times[first["id"]].frames == first["frames"]


def test_sets_of_other_data_are_refused(tmp_path: Path) -> None:
    origin = Origin("ctc", "w1")
    write_facts(tmp_path, origin, {"train": "a"})
    with pytest.raises(UserError, match=r"has alignments of train, not of dev: run slimasr-align --set-name dev"):
        check_aligned_sets(tmp_path, {"train": "a", "dev": "b"})
    write_facts(tmp_path, origin, {"dev": "b"})
    check_aligned_sets(tmp_path, {"train": "a", "dev": "b"})
    with pytest.raises(UserError, match=r"other transcripts or audio of dev; run slimasr-align again"):
        check_aligned_sets(tmp_path, {"train": "a", "dev": "c"})
    write_facts(tmp_path, Origin("ctc", "w1", realign=1), {"dev": "b"})
    with pytest.raises(UserError, match="has alignments of dev, not of train"):
        check_aligned_sets(tmp_path, {"train": "a", "dev": "b"})


def test_folders_of_older_versions_are_refused(tmp_path: Path) -> None:
    old = {"subsampling_factor": 4, "subnet": "w1", "checkpoint": "final", "tokenizer": "f00d", "sets": {"train": "a"}}
    (tmp_path / "alignments.json").write_text(json.dumps(old))
    (tmp_path / "train.jsonl").write_text('{"id": "a", "frames": [1, 2]}\n')
    for read in (lambda: check_aligned_sets(tmp_path, {"train": "a"}), lambda: read_alignments(tmp_path, ["train"])):
        with pytest.raises(UserError, match="an older version made these alignments, .*; run slimasr-align again"):
            read()
    with pytest.raises(UserError, match="alignments.json is missing: run slimasr-align first"):
        read_alignments(tmp_path / "nowhere", ["train"])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    timeline = Timeline(("▁", "A", "'"), np.array([0, 3, 3]), np.array([2, 3, 8]), 9)
    write_alignments(
        alignment_file(tmp_path, "dev"), {"a": timeline, "b": without_times("", 4), "c": without_times("A B", 7)}
    )
    write_facts(tmp_path, Origin("ctm", "words.ctm"), {"dev": "b"})
    found = read_alignments(tmp_path, ["dev"])
    assert [found.of("a").starts.tolist(), found.of("a").ends.tolist()] == [[0, 3, 3], [2, 3, 8]]
    assert [found.of(name).units for name in "abc"] == [("▁", "A", "'"), (), ("▁", "A", "▁", "B")]
    assert [found.of(name).frames for name in "abc"] == [9, 4, 7]
    assert found.missing("abc") == ["b", "c"]
    assert torch.from_numpy(found.of("a").ends).dtype == torch.int64
