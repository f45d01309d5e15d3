"""Stage 2: numbers against an independent implementation, speeds, statistics, going on after a kill."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from lhotse import CutSet

from slimasr.data.features.shards import make_extractor, make_shards
from slimasr.data.features.stage import compute_features, read_stats
from slimasr.data.files import DataFolder
from slimasr.data.identity.digests import digest_of
from slimasr.data.manifests.stage import prepare
from slimasr.data.memory.training_cuts import read_feature_cuts
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.errors import UserError
from tests.data.corpus import audio_path, config, quiet

SPEEDS = (0.9, 1.0, 1.1)
Prepared = tuple[Path, Tokenizer]


def _digest(folder: Path) -> dict[str, str]:
    """Content of manifests, statistics and feature files, by name."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = (
                json.dumps([cut.to_dict() for cut in CutSet.from_jsonl_lazy(path)]).encode()
                if path.name.endswith(".jsonl.gz")
                else path.read_bytes()
            )
            digests[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return digests


def test_filter_banks_equal_those_of_device_runtimes() -> None:
    """kaldi-native-fbank is what sherpa-onnx computes features with."""
    knf = pytest.importorskip("kaldi_native_fbank", reason="kaldi-native-fbank is not installed")
    rng = np.random.default_rng(0)
    samples = (0.1 * rng.standard_normal(16000 * 2 + 123)).astype(np.float32)
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = False
    options.frame_opts.samp_freq = 16000
    options.mel_opts.num_bins = 80
    options.mel_opts.high_freq = -400
    extractor = knf.OnlineFbank(options)
    extractor.accept_waveform(16000, samples.tolist())
    extractor.input_finished()
    expected = np.stack([extractor.get_frame(i) for i in range(extractor.num_frames_ready)])
    ours = make_extractor(80, 16000).extract(samples[None], 16000)
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, atol=2e-3)


def test_stored_features_are_those_of_the_audio_at_each_speed(prepared: Prepared) -> None:
    data_dir, _ = prepared
    folder = DataFolder(data_dir)
    extractor = make_extractor(20, 16000)
    natural = {cut.id: cut for cut in read_feature_cuts(folder, "train")}
    for speed in SPEEDS:
        cuts = read_feature_cuts(folder, "train", speed)
        assert {cut.id for cut in cuts} == set(natural)
        for cut in list(cuts)[:5]:
            samples, _ = soundfile.read(natural[cut.id].recording.sources[0].source, dtype="float32")
            if speed != 1.0:
                # Linear interpolation is another, cruder resampler: alike below, not in the top bands.
                length = round(len(samples) / speed)
                samples = np.interp(np.arange(length) * speed, np.arange(len(samples)), samples)
            expected = extractor.extract(samples[None].astype(np.float32), 16000)
            stored = cut.load_features()
            assert abs(len(stored) - len(expected)) <= 1
            frames = min(len(stored), len(expected))
            error = np.abs(stored[:frames, :10] - expected[:frames, :10])
            assert np.median(error) < (0.05 if speed == 1.0 else 0.2)


def test_a_faster_speed_is_shorter_and_higher(an4: Path, tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    soundfile.write(audio_path(an4, "speakera-0"), tone, 16000)
    recipe = config(speeds=list(SPEEDS))
    prepare(recipe.data, tmp_path / "data", an4, False, quiet)
    compute_features(recipe, tmp_path / "data", 1, quiet)
    peaks, frames = [], []
    for speed in SPEEDS:
        cut = next(c for c in read_feature_cuts(DataFolder(tmp_path / "data"), "train", speed) if c.id == "speakera-0")
        features = cut.load_features()
        spectrum = np.exp(features[20:-20].mean(axis=0))
        peaks.append(float((spectrum * np.arange(20)).sum() / spectrum.sum()))
        frames.append(len(features))
    assert frames == [111, 100, 91]
    assert peaks[0] < peaks[1] < peaks[2]


def test_statistics_are_those_of_all_training_frames(prepared: Prepared) -> None:
    data_dir, _ = prepared
    folder = DataFolder(data_dir)
    frames = np.concatenate([c.load_features() for s in SPEEDS for c in read_feature_cuts(folder, "train", s)])
    mean, std = read_stats(config(speeds=list(SPEEDS)), data_dir)
    # Stored features are rounded, the statistics are not.
    np.testing.assert_allclose(mean.numpy(), frames.mean(axis=0), atol=5e-3)
    np.testing.assert_allclose(std.numpy(), frames.std(axis=0), atol=5e-3)


def test_other_settings_than_the_features_were_made_with_are_named(prepared: Prepared) -> None:
    data_dir, _ = prepared
    with pytest.raises(UserError, match=r"data\.storage is on_the_fly, .* run stage 2 again"):
        read_stats(config(storage="on_the_fly"), data_dir)
    with pytest.raises(UserError, match=r"run stage 2 \(slimasr-features\) first"):
        read_stats(config(), data_dir / "nowhere")


def test_two_processes_give_what_one_gives(an4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slimasr.data.features.shards.SHARD_CUTS", 20)
    recipe = config()
    digests = []
    for jobs in (1, 2):
        data_dir = tmp_path / f"data{jobs}"
        prepare(recipe.data, data_dir, an4, False, quiet)
        compute_features(recipe, data_dir, jobs, quiet)
        digests.append(_digest(data_dir / "features"))
    assert digests[0] == digests[1]


def _run_in_a_process(data_dir: Path, die_after: int) -> int | None:
    """Stage 2 in a process of its own that kills itself after so many shards; its exit code."""

    def dying(items: Iterable[Any], total: int, label: str) -> Iterable[Any]:
        for number, item in enumerate(items, start=1):
            yield item
            if number == die_after:
                os.kill(os.getpid(), signal.SIGKILL)

    recipe = config(speeds=[0.9, 1.0])
    process = multiprocessing.get_context("fork").Process(target=compute_features, args=(recipe, data_dir, 1, dying))
    process.start()
    process.join()
    return process.exitcode


def test_a_killed_run_goes_on_and_ends_the_same(an4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slimasr.data.features.shards.SHARD_CUTS", 10)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for data_dir in (whole, killed):
        prepare(config().data, data_dir, an4, False, quiet)
    assert _run_in_a_process(whole, die_after=1000) == 0
    for die_after in (3, 4):
        assert _run_in_a_process(killed, die_after) == -signal.SIGKILL
    assert not (killed / "features" / "stats.json").exists()
    (killed / "features" / ".0123456789ab.partial_cuts_train.jsonl.gz").write_bytes(b"half")
    finished = {path: path.stat().st_mtime_ns for path in killed.rglob("*.lca")}
    assert len(finished) == 7
    assert _run_in_a_process(killed, die_after=1000) == 0
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, "finished shards stay"
    assert _digest(killed / "features") == _digest(whole / "features")


def test_corrupt_training_audio_is_listed_and_tried_again_when_repaired(an4: Path, tmp_path: Path) -> None:
    path = audio_path(an4, "speakerb-1")
    whole = path.read_bytes()
    recipe, folder = config(), DataFolder(tmp_path / "data")
    path.write_bytes(whole[: len(whole) // 2])
    prepare(recipe.data, folder.root, an4, False, quiet)
    assert compute_features(recipe, folder.root, 1, quiet)["cuts_train.jsonl.gz"] == 35
    (listed,) = json.loads(folder.bad("train").read_text())
    assert listed["id"] == "speakerb-1"
    assert "speakerb-1.flac: cannot be decoded" in listed["reason"]
    path.write_bytes(whole)
    prepare(recipe.data, folder.root, an4, False, quiet)
    assert compute_features(recipe, folder.root, 1, quiet)["cuts_train.jsonl.gz"] == 36
    assert json.loads(folder.bad("train").read_text()) == []


def test_corrupt_dev_audio_stops_the_stage(an4: Path, tmp_path: Path) -> None:
    recipe = config(max_bad_share=1.0)
    path = audio_path(an4, "speakere-1")
    path.write_bytes(path.read_bytes()[:5000])
    prepare(recipe.data, tmp_path / "data", an4, False, quiet)
    with pytest.raises(UserError, match=r"dev: speakere-1: .*speakere-1\.flac: cannot be decoded"):
        compute_features(recipe, tmp_path / "data", 1, quiet)


def test_other_cuts_or_settings_make_other_shards_and_the_old_ones_go(an4: Path, tmp_path: Path) -> None:
    recipe, folder = config(), DataFolder(tmp_path / "data")
    prepare(recipe.data, folder.root, an4, False, quiet)
    compute_features(recipe, folder.root, 1, quiet)
    first = set((folder.features / "shards").iterdir())
    other = recipe.model_copy(update={"features": recipe.features.model_copy(update={"num_mel_bins": 30})})
    compute_features(other, folder.root, 1, quiet)
    second = set((folder.features / "shards").iterdir())
    assert len(first) == len(second) == 3
    assert not first & second
    assert next(iter(read_feature_cuts(folder, "train"))).num_features == 30


def test_shards_keep_their_names_whatever_the_statistics_are_called(an4: Path, tmp_path: Path) -> None:
    """Folders of shards have the digest that earlier versions gave them, so that these need not be computed again."""
    recipe, folder = config(), DataFolder(tmp_path / "data")
    prepare(recipe.data, folder.root, an4, False, quiet)
    settings = [{"num_mel_bins": recipe.features.num_mel_bins}, recipe.data.sampling_rate, recipe.data.storage, 1.0]
    for name in ("", "mine"):
        named = recipe.model_copy(update={"features": recipe.features.model_copy(update={"name": name})})
        (shard,) = make_shards(named, folder, "train", 1.0)
        assert shard.stem.parent.name == f"train-{digest_of([*settings, False])}"


def test_a_data_folder_may_be_moved(prepared: Prepared, tmp_path: Path) -> None:
    data_dir, _ = prepared
    moved = tmp_path / "moved"
    moved.symlink_to(data_dir)
    cut = next(iter(read_feature_cuts(DataFolder(moved), "train")))
    assert cut.features.storage_path.startswith(str(moved))
    assert len(cut.load_features()) == cut.num_frames
