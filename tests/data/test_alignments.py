"""Alignments on their way from files into batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from slimasr.config.loss import AuxiliaryConfig
from slimasr.config.schema import Config
from slimasr.data.alignments import (
    Origin,
    alignment_file,
    check_aligned_sets,
    check_frame_rate,
    read_alignments,
    write_alignments,
    write_facts,
)
from slimasr.data.dataloading import eval_batches
from slimasr.data.files import DataFolder
from slimasr.data.sampling import speed_of
from slimasr.data.tokenizer import Tokenizer
from slimasr.data.training_cuts import read_feature_cuts
from slimasr.errors import UserError
from tests.data.corpus import batch_source, config

SPEEDS = [0.9, 1.0, 1.1]
Prepared = tuple[Path, Tokenizer]
Frames = dict[float, dict[str, list[int]]]


def recipe(folder: Path, **data: object) -> Config:
    made = config(speeds=SPEEDS, **data)
    changes = {"auxiliary": AuxiliaryConfig(layers=[1]), "alignments": folder}
    return made.model_copy(update={"loss": made.loss.model_copy(update=changes)})


@pytest.fixture
def aligned(prepared: Prepared, tmp_path: Path) -> tuple[Path, Frames]:
    """A folder of made-up alignments of the train and dev sets, and what is in it for train."""
    data_dir, tokenizer = prepared
    rng, written = np.random.default_rng(0), {}
    for set_name, speeds in (("train", SPEEDS), ("dev", [1.0])):
        for speed in speeds:
            frames = {
                cut.id: sorted(rng.integers(0, 12, len(tokenizer.encode(cut.supervisions[0].text))).tolist())
                for cut in read_feature_cuts(DataFolder(data_dir), set_name, speed)
            }
            write_alignments(alignment_file(tmp_path, set_name, speed), frames)
            written.setdefault(speed, {}).update(frames)
    write_facts(tmp_path, Origin(4, "w1", "final", "f00d"), {"train": "a", "dev": "b"})
    return tmp_path, written


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_carry_the_alignment_of_the_speed_they_are_heard_at(
    prepared: Prepared, aligned: tuple[Path, Frames], num_workers: int
) -> None:
    folder, written = aligned
    source = batch_source(recipe(folder, num_workers=num_workers), *prepared, seed=7)
    speeds = set()
    for batch in source.train_batches(2, skip=1):
        assert batch.alignment is not None and batch.alignment.shape == batch.y.shape
        for row, name in enumerate(batch.ids):
            speed, tokens = speed_of(name, SPEEDS, 7, 2), int(batch.y_lens[row])
            speeds.add(speed)
            assert batch.alignment[row, :tokens].tolist() == written[speed][name]
            assert (batch.alignment[row, tokens:] == -1).all()
    assert speeds == set(SPEEDS)


def test_worst_batches_are_aligned_at_the_lowest_speed(prepared: Prepared, aligned: tuple[Path, Frames]) -> None:
    folder, written = aligned
    for batch in batch_source(recipe(folder), *prepared).worst_batches():
        assert batch.alignment is not None
        for row, name in enumerate(batch.ids):
            assert batch.alignment[row, : int(batch.y_lens[row])].tolist() == written[0.9][name]


def test_evaluation_is_aligned_only_where_asked(prepared: Prepared, aligned: tuple[Path, Frames]) -> None:
    folder, written = aligned
    for batch in eval_batches(recipe(folder), prepared[0], "dev", prepared[1], 10.0, aligned=True):
        assert batch.alignment is not None
        for row, name in enumerate(batch.ids):
            assert batch.alignment[row, : int(batch.y_lens[row])].tolist() == written[1.0][name]
    plain = list(eval_batches(recipe(folder), prepared[0], "test", prepared[1], 10.0))
    assert all(batch.alignment is None for batch in plain)
    assert all(batch.alignment is None for batch in batch_source(config(), *prepared).train_batches(1))


@pytest.mark.parametrize(("set_name", "speed"), [("train", 1.1), ("dev", 1.0)])
def test_an_utterance_without_alignment_is_named(
    prepared: Prepared, aligned: tuple[Path, Frames], set_name: str, speed: float
) -> None:
    folder = aligned[0]
    path = alignment_file(folder, set_name, speed)
    *kept, last = path.read_text().splitlines(keepends=True)
    path.write_text("".join(kept))
    name = last.split('"')[3]
    at = " at speed 1.1" if speed == 1.1 else ""
    with pytest.raises(UserError, match=rf"^{name}: has no alignment{at} in .*; run slimasr-align"):
        batch_source(recipe(folder), *prepared)
    path.write_text("".join(kept) + "{}\n")
    with pytest.raises(UserError, match=rf"{path.name}: line {len(kept) + 1} is not an alignment"):
        batch_source(recipe(folder), *prepared)
    path.unlink()
    with pytest.raises(UserError, match=rf"{path.name} is missing: run slimasr-align"):
        batch_source(recipe(folder), *prepared)


def test_another_tokenizer_or_frame_rate_is_noticed(prepared: Prepared, aligned: tuple[Path, Frames]) -> None:
    folder, written = aligned
    frames = {name: [*row, 12] for name, row in written[1.0].items() if name.startswith("speakere-")}
    write_alignments(alignment_file(folder, "dev"), frames)
    with pytest.raises(UserError, match=r"speakere-\d: has \d+ tokens, its alignment \d+: made with another tokenizer"):
        list(eval_batches(recipe(folder), prepared[0], "dev", prepared[1], 10.0, aligned=True))
    check_frame_rate(folder, 4)
    with pytest.raises(UserError, match="aligned at 4 feature frames per encoder frame, this model has 6"):
        check_frame_rate(folder, 6)
    with pytest.raises(UserError, match="run slimasr-align"):
        check_frame_rate(folder / "nowhere", 4)


def test_alignments_of_other_transcripts_or_another_tokenizer_are_refused(tmp_path: Path) -> None:
    origin = Origin(4, "w1", "final", "f00d")
    write_facts(tmp_path, origin, {"train": "a"})
    write_facts(tmp_path, origin, {"dev": "b"})
    check_aligned_sets(tmp_path, "f00d", {"train": "a", "dev": "b"})
    with pytest.raises(UserError, match=r"other transcripts or audio of dev; run slimasr-align again"):
        check_aligned_sets(tmp_path, "f00d", {"train": "a", "dev": "c"})
    with pytest.raises(UserError, match="another tokenizer"):
        check_aligned_sets(tmp_path, "beef", {"train": "a", "dev": "b"})
    write_facts(tmp_path, replace(origin, checkpoint="best"), {"dev": "b"})
    check_aligned_sets(tmp_path, "f00d", {"train": "other", "dev": "b"})  # of train nothing is known any more


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_alignments(alignment_file(tmp_path, "dev"), {"a": [0, 3, 3], "b": [], "c": [-1]})
    found = read_alignments(tmp_path, ["dev"])
    assert [found.of(name).tolist() for name in "abc"] == [[0, 3, 3], [], [-1]]
    assert torch.from_numpy(found.of("b")).dtype == torch.int64
