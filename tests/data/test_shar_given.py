"""Shards that a recipe names, which are read where they are."""

from __future__ import annotations

import json
import math
import wave
from array import array
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from slimasr.cli.inspect import run as inspect_command
from slimasr.cli.prepare import run as prepare_command
from slimasr.config.load import save_config
from slimasr.config.schema import Config
from slimasr.data.features.stage import compute_features, read_stats
from slimasr.data.files import DataFolder, read_cuts
from slimasr.data.manifests.stage import prepare
from slimasr.data.memory.sampling import RankInfo
from slimasr.data.shar import preparing
from slimasr.data.shar.opening import open_reading
from slimasr.data.shar.source import ShardSource
from slimasr.data.tokens.stage import train_tokenizer
from slimasr.errors import UserError
from slimasr.progress import silent
from tests.data.made_shards import write_shards
from tests.data.own import write_wav
from tests.training.kit import tiny_config


def dev_set(folder: Path) -> Path:
    """A folder with one recording of noise and its transcript."""
    folder.mkdir()
    with wave.open(str(folder / "noise.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(array("h", [index * 7919 % 2000 for index in range(16000)]).tobytes())
    (folder / "noise.txt").write_text("ab ba")
    return folder


def config_of(root: Path, train: str | list[str], **data: Any) -> Config:
    sources = {"train": train, "dev": str(root / "dev")}
    shar = {"buffer_cuts": 10, **data.pop("shar", {})}
    options = {"corpus": "own", "sources": sources, "test": [], "storage": "shar", "batch_seconds": 3.0}
    tokenizer = {"kind": "char", "vocab_size": 20}
    training = {"num_epochs": None, "num_steps": 3}
    return tiny_config(data={**options, **data, "shar": shar}, tokenizer=tokenizer, training=training)


def stages(config: Config, root: Path) -> None:
    prepare(config.data, root / "data", None, download=False, progress=silent)
    compute_features(config, root / "data", num_jobs=1, progress=silent)
    train_tokenizer(config, root / "data")


def listing(path: Path, *entries: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return str(path)


def test_given_shards_stay_where_they_are_and_are_listed_again_under_other_ids(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards", [5, 4])
    dev_set(tmp_path / "dev")
    files = [
        {"cuts": f"shards/cuts.{index:06d}.jsonl.gz", "features": f"shards/features.{index:06d}.tar"}
        for index in (0, 1)
    ]
    # The second shard is listed twice, and comes from commands, the first of which unpacks, as lhotse wants it.
    piped = {
        "cuts": f"pipe:gunzip -c {folder}/cuts.000001.jsonl.gz",
        "features": f"pipe:cat {folder}/features.000001.tar",
    }
    path = listing(tmp_path / "list.jsonl", *files, {**piped, "prefix": "again-"})
    # Transcripts are changed in stage 1's sample and as training reads them.
    config = config_of(tmp_path, path, shar={"allow_pipes": True}, text={"case": "upper"}, gain={"probability": 1.0})
    stages(config, tmp_path)
    data = tmp_path / "data"
    listed = [f"u{number}" for number in range(9)] + [f"again-u{number}" for number in range(5, 9)]
    # Stage 1 keeps transcripts alone, for the tokenizer.
    raw = read_cuts(DataFolder(data).raw_cuts("train"), "")
    assert sorted(cut.id for cut in raw) == sorted(listed)
    assert not any(cut.has_recording or cut.has_features for cut in raw)
    assert all(cut.supervisions[0].text.isupper() for cut in raw)
    record = json.loads((data / "manifests" / "identity_train.json").read_text())
    assert record["utterances"] == len(listed)
    assert not (data / "features" / "shar").exists()
    tokenizer = train_tokenizer(config, data)
    reading = open_reading(config, DataFolder(data), tokenizer, lambda frames: frames)
    stream = ShardSource(reading, RankInfo(), [50], lambda value: [value], lambda seen, bad: None)
    seen: list[str] = []
    for batch in stream.batches_at(None):
        seen += batch.ids
        assert all(text.isupper() for text in batch.texts)
        if len(seen) == len(listed):
            break
    assert sorted(seen) == sorted(listed)
    # Every made-up utterance has one value in all its frames.
    mean, _ = read_stats(config, data)
    assert 0.0 < float(mean.min()) == pytest.approx(float(mean.max()), abs=0.02)
    # Another list is another set.
    listing(tmp_path / "list.jsonl", *files)
    prepare(config.data, data, None, download=False, progress=silent)
    with pytest.raises(UserError, match="the transcripts and utterances and audio files of train have changed"):
        open_reading(config, DataFolder(data), tokenizer, lambda frames: frames)


def means_of(root: Path, channel: str | int | None, **options: Any) -> float:
    """The mean of the features, after all stages and a batch of the stream."""
    chosen = {} if channel is None else {"channel": channel}
    config = config_of(root, str(root / "shards"), shar={"content": "audio"}, options=chosen, **options)
    stages(config, root)
    reading = open_reading(config, DataFolder(root / "data"), train_tokenizer(config, root / "data"), lambda n: n)
    stream = ShardSource(reading, RankInfo(), [50], lambda value: [value], lambda seen, bad: None)
    batch = next(stream.batches_at(None))
    inside = torch.cat([batch.x[row, :length] for row, length in enumerate(batch.x_lens.tolist())])
    mean = float(read_stats(config, root / "data")[0].mean())
    # Noise of one level: a batch has about the mean of all.
    assert float(inside.mean()) == pytest.approx(mean, abs=0.2)
    return mean


def test_one_channel_of_given_shards_is_read_or_the_average(tmp_path: Path) -> None:
    dev_set(tmp_path / "dev")
    # The second channel has half the level.
    write_shards(tmp_path / "shards", [6], audio=True, channels=2)
    with pytest.raises(UserError, match=r"000000\.tar: u\d has 2 channels, needs to be mono: choose one by data\.opti"):
        means_of(tmp_path, None)
    first = means_of(tmp_path, "0")
    levels = {"1": 0.5, "average": 0.75}
    # The dev set is mono: the number of a channel holds for all sets.
    with pytest.raises(UserError, match=r"dev: dev-noise: .*noise\.wav: is mono, and has no channel 1"):
        means_of(tmp_path, "1")
    write_wav(tmp_path / "dev" / "noise.wav", channels=3)
    for channel, level in levels.items():
        assert means_of(tmp_path, channel) == pytest.approx(first + 2 * math.log(level), abs=0.01)
    with pytest.raises(UserError, match=r"000000\.tar: u\d has channels 0 to 1, and no channel 2; correct data\.opt"):
        means_of(tmp_path, 2)


def test_given_shards_are_inspected_like_other_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "TRANSCRIPT_SAMPLE", 5)
    dev_set(tmp_path / "dev")
    config = config_of(tmp_path, str(write_shards(tmp_path / "shards", [5, 4])))
    save_config(config, tmp_path / "config.yaml")
    arguments = ["--config", str(tmp_path / "config.yaml"), "--data", str(tmp_path / "data")]
    result = CliRunner().invoke(command_app(prepare_command), arguments)
    assert result.exit_code == 0, result.stderr
    rows = [line.split()[:2] for line in result.stdout.splitlines()[2:4]]
    assert rows == [["train", "5"], ["dev", "1"]]
    assert "train: 2 characters: " in result.stdout
    assert "that no training set has" not in result.stderr
    assert "note: train: the figures are those of a sample of 5 of 9 utterances" in result.stderr
    result = CliRunner().invoke(command_app(inspect_command), [str(tmp_path / "data"), "--json"])
    train, dev = json.loads(result.stdout)["sets"]
    assert (train["utterances"], train["suspicious"], train["audio_read"]) == (5, 0, False)
    assert (dev["utterances"], dev["suspicious"], dev["audio_read"]) == (1, 0, True)
