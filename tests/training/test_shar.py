"""Stages 1 to 4 with shards, on tones: what stage 2 writes, and a training that is killed and resumed."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from lhotse import CutSet
from pydantic import ValidationError

from slimasr.config.load import load_config, parse_config, save_config
from slimasr.config.schema import Config
from slimasr.data.features.stage import compute_features, read_stats
from slimasr.data.files import DataFolder, read_cuts
from slimasr.data.manifests.stage import prepare
from slimasr.data.memory.dataloading import BatchSource
from slimasr.data.memory.sampling import RankInfo
from slimasr.data.own.find import detect
from slimasr.data.shar.opening import open_reading
from slimasr.data.shar.source import ShardSource
from slimasr.data.tokens.load import load_tokenizer
from slimasr.data.tokens.stage import train_tokenizer
from slimasr.errors import UserError
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.progress import silent
from slimasr.training.checkpoint import list_checkpoints
from slimasr.training.trainer import train
from tests.training.kit import assert_equal, tiny_config
from tests.training.test_resume import kill_training, log_lines, write_tones

LENGTH = {"num_epochs": None, "num_steps": 6, "epoch_steps": 4, "checkpoint_minutes": 1e-9, "num_threads": 1}


def config_of(**data: Any) -> Config:
    options = {"corpus": "fsdd", "test": ["dev"], "sampling_rate": 8000, "batch_seconds": 2.0, "storage": "shar"}
    shar = {"shard_cuts": 3, "buffer_cuts": 8, **data.pop("shar", {})}
    tokenizer = {"kind": "char", "vocab_size": 20}
    return tiny_config(data={**options, **data, "shar": shar}, tokenizer=tokenizer, training=LENGTH)


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus of tones."""
    folder = tmp_path_factory.mktemp("shar")
    write_tones(folder, range(5, 14), 3)
    return folder


def stages(config: Config, tones: Path, data: Path) -> None:
    prepare(config.data, data, tones / "fsdd", download=False, progress=silent)
    compute_features(config, data, num_jobs=1, progress=silent)
    train_tokenizer(config, data)


@pytest.fixture(scope="module")
def recipe(tones: Path) -> Path:
    """A folder with ``config.yaml`` and ``data/``, whose training set is shards of features."""
    config = config_of()
    save_config(config, tones / "config.yaml")
    stages(config, tones, tones / "data")
    return tones


def test_a_killed_training_ends_like_one_that_was_not(recipe: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    config = load_config(recipe / "config.yaml")
    train(config, recipe / "data", whole)
    # In the second epoch: a pass over the shards does not end where an epoch does.
    kill_training(recipe, parts, "epoch-001-step-*.pt")
    assert not (parts / "final.pt").exists()
    stopped = load_checkpoint(list_checkpoints(parts / "checkpoints")[-1])
    assert stopped["state"]["place"]["readers"] == 1
    assert stopped["plan"]["steps"] == (4, 2)

    train(config, recipe / "data", parts)
    assert_equal(load_checkpoint(whole / "final.pt"), load_checkpoint(parts / "final.pt"))
    assert log_lines(whole) == log_lines(parts)
    assert [(line["epoch"], line["step"]) for line in log_lines(whole)] == [(1, 4), (2, 6)]


def test_shards_hold_the_set_in_lhotses_format_and_in_random_order(recipe: Path) -> None:
    data = recipe / "data"
    shards = CutSet.from_shar(in_dir=data / "features" / "shar" / "train")
    assert detect(data / "features" / "shar" / "train").name == "shar"
    cuts = {cut.id: cut for cut in shards}
    listed = [cut.id for cut in read_cuts(DataFolder(data).raw_cuts("train"), "")]
    assert sorted(cuts) == sorted(listed)
    assert list(cuts) != listed
    assert all(cut.load_features().shape == (cut.num_frames, 20) for cut in cuts.values())
    # The statistics are those of the features before compression.
    every = torch.cat([torch.from_numpy(cut.load_features()) for cut in cuts.values()])
    mean, std = read_stats(load_config(recipe / "config.yaml"), data)
    torch.testing.assert_close(mean, every.mean(dim=0), atol=0.02, rtol=0)
    torch.testing.assert_close(std, every.std(dim=0), atol=0.02, rtol=0)


def test_stage_2_goes_on_with_what_is_missing(recipe: Path, tones: Path, tmp_path: Path) -> None:
    config = config_of()
    data = tmp_path / "data"
    stages(config, tones, data)
    folder = data / "features" / "shar" / "train"
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    lost = sorted(folder.glob("features.*"))[1]
    lost.unlink()
    compute_features(config, data, num_jobs=1, progress=silent)
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    assert before.keys() == after.keys()
    # Equal audio makes equal shards.
    assert all(before[path][1] == after[path][1] for path in before)
    again = {path.name.split(".")[1] for path in before if before[path][0] != after[path][0]}
    assert again == {lost.name.split(".")[1]}
    # A changed shard is noticed before training reads it.
    lost.write_bytes(lost.read_bytes()[:100])
    with pytest.raises(UserError, match=r"features\.000001-\w+\.tar: has 100 bytes, and had \d+ when stage 2"):
        open_reading(config, DataFolder(data), load_tokenizer(data / "lang_char_20"), lambda frames: frames)


def test_batches_from_audio_are_those_made_on_the_fly(tones: Path, tmp_path: Path) -> None:
    speeds = {"speeds": [0.9, 1.0, 1.1]}
    config = config_of(shar={"content": "audio"}, **speeds)
    fly = parse_config({**config_of().model_dump(by_alias=True), "name": "fly"})
    data = fly.data.model_copy(update={"storage": "on_the_fly", **speeds})
    fly = fly.model_copy(update={"data": data})
    stages(config, tones, tmp_path / "shar")
    prepare(data, tmp_path / "fly", tones / "fsdd", download=False, progress=silent)
    compute_features(fly, tmp_path / "fly", num_jobs=1, progress=silent)
    tokenizer = load_tokenizer(tmp_path / "shar" / "lang_char_20")
    in_memory = BatchSource(fly, tmp_path / "fly", tokenizer, encoder_frames=lambda frames: frames)
    reading = open_reading(config, DataFolder(tmp_path / "shar"), tokenizer, lambda frames: frames)
    stream = ShardSource(reading, RankInfo(), [50], lambda value: [value], lambda seen, bad: None)

    def known(batches: Any) -> dict[tuple[str, int], torch.Tensor]:
        return {
            (name, int(frames)): batch.x[row, :frames]
            for batch in batches
            for row, (name, frames) in enumerate(zip(batch.ids, batch.x_lens, strict=True))
        }

    # Utterances at the speeds that different epochs drew for them, found again by their lengths.
    expected = known(batch for epoch in range(1, 9) for batch in in_memory.train_batches(epoch))
    found = known(islice(stream.batches_at(None), 40))
    shared = found.keys() & expected.keys()
    assert len({name for name, _ in shared}) == 12
    assert len(shared) > 24
    for key in shared:
        torch.testing.assert_close(found[key], expected[key], atol=1e-5, rtol=0)


def test_a_run_is_as_long_as_either_key_says() -> None:
    tree = json.loads(json.dumps(config_of().model_dump(by_alias=True, mode="json")))
    assert config_of().training.epochs == 2
    for changes, message in (
        ({"num_epochs": 5}, r"num_steps: the run's length is given twice, as num_epochs 5 and num_steps 6"),
        ({"num_steps": None}, r"num_epochs: the run has no length"),
        ({"num_steps": None, "num_epochs": 5}, r"training\.num_steps: data\.storage shar reads a stream"),
    ):
        with pytest.raises(ValidationError, match=message):
            parse_config({**tree, "training": {**tree["training"], **changes}})
    with pytest.raises(
        ValidationError, match=r"training\.num_steps: data\.storage precomputed trains for training\.num_ep"
    ):
        parse_config({**tree, "data": {**tree["data"], "storage": "precomputed"}})
    # Only the new key: the default of the other one is left out.
    short = parse_config({"name": "s", "data": {"corpus": "digits", "storage": "shar"}, "training": {"num_steps": 7}})
    assert (short.training.num_epochs, short.training.epochs) == (None, 1)
