"""Audio shorter than a front end needs, and shorter than one feature frame, in every set and storage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.data.batches.evaluation import eval_batches
from slimasr.data.batches.evaluation_notes import evaluation_notes
from slimasr.data.features.frames import SILENCE, extract_frames, feature_frames, pad_with_silence
from slimasr.data.features.shards import make_extractor
from slimasr.data.features.stage import compute_features
from slimasr.data.files import DataFolder, read_bad
from slimasr.data.manifests.stage import prepare
from slimasr.errors import UserError
from tests.data.corpus import audio_path, batch_source, config, make_an4, quiet, run_stages

STORAGES = ["precomputed", "on_the_fly"]


def write(corpus: Path, name: str, samples: int, rate: int = 16000) -> None:
    noise = 0.1 * np.random.default_rng(samples).standard_normal(samples)
    soundfile.write(audio_path(corpus, name), noise, rate, subtype="PCM_16")


def recipe_of(**data: Any) -> Config:
    """Without CTC, every text fits into one encoder frame."""
    recipe = config(**data)
    return recipe.model_copy(update={"loss": recipe.loss.model_copy(update={"ctc_weight": 0.0})})


def rows(batches: list[Batch]) -> dict[str, torch.Tensor]:
    """Utterance id -> its features, padding of the batch aside."""
    return {name: batch.x[row, : batch.x_lens[row]] for batch in batches for row, name in enumerate(batch.ids)}


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_any_number_of_samples_has_features(rate: int) -> None:
    extractor = make_extractor(20, rate)
    for samples in [*range(1, 1000, 7), rate // 100 - 1, rate // 100, rate // 100 + 1, rate // 200]:
        features = extract_frames(extractor, np.full((1, samples), 0.1, dtype=np.float32), rate)
        assert features.shape == (feature_frames(samples / rate), 20)
        assert (len(features) > 0) == (samples >= rate / 100 - 0.1)


def test_padding_is_what_digital_silence_has() -> None:
    silence = make_extractor(20, 16000).extract(np.zeros((1, 1600), dtype=np.float32), 16000)
    np.testing.assert_allclose(silence, SILENCE, rtol=1e-6)
    some = np.ones((3, 20), dtype=np.float32)
    padded = pad_with_silence(some, 7)
    assert padded.dtype == np.float32
    np.testing.assert_array_equal(padded, np.concatenate([some, silence[:4]]))
    assert pad_with_silence(some, 3) is some


@pytest.mark.parametrize("storage", STORAGES)
def test_dev_keeps_what_is_too_short_and_batches_do_not_matter(an4: Path, tmp_path: Path, storage: str) -> None:
    lengths = {"speakere-0": 1, "speakere-1": 159, "speakere-2": 700}
    for name, samples in lengths.items():
        write(an4, name, samples)
    recipe = config(storage=storage)
    tokenizer = run_stages(recipe, tmp_path, an4)
    together = list(eval_batches(recipe, tmp_path, "dev", tokenizer, 100.0))
    alone = list(eval_batches(recipe, tmp_path, "dev", tokenizer, 0.001))
    assert (len(together), len(alone)) == (1, 4)
    ours, theirs = rows(together), rows(alone)
    assert ours.keys() == theirs.keys() == {f"speakere-{n}" for n in range(4)}
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for name in ("speakere-0", "speakere-1"):
        torch.testing.assert_close(ours[name], torch.full((7, 20), SILENCE))
    samples, rate = soundfile.read(audio_path(an4, "speakere-2"), dtype="float32")
    expected = make_extractor(20, rate).extract(samples[None], rate)
    np.testing.assert_allclose(ours["speakere-2"][:4], expected, atol=0.05)
    torch.testing.assert_close(ours["speakere-2"][4:], torch.full((3, 20), SILENCE))
    (batch,) = together
    assert batch.unheard == {"speakere-0", "speakere-1"}
    assert batch.unheard <= batch.unscored
    assert batch.searched_lens(torch.full((4,), 5)).tolist() == [0 if n in batch.unheard else 5 for n in batch.ids]
    notes = evaluation_notes(recipe, tmp_path, "dev", tokenizer, losses=False)
    assert len(notes) == 1 and notes[0].startswith("dev: 2 of 4 utterances are shorter than one feature frame")
    assert "speakere-0.flac" in notes[0] and "speakere-1.flac" in notes[0]


@pytest.mark.parametrize("storage", STORAGES)
def test_training_lists_what_has_no_frame_with_its_file(an4: Path, tmp_path: Path, storage: str) -> None:
    write(an4, "speakera-0", 1)
    write(an4, "speakerb-3", 80)
    write(an4, "speakerc-1", 700)
    recipe = recipe_of(storage=storage, min_cut_seconds=0.0)
    tokenizer = run_stages(recipe, tmp_path, an4)
    bad = {item.id: item.reason for item in read_bad(DataFolder(tmp_path).bad("train"))}
    assert bad.keys() == {"speakera-0", "speakerb-3"}
    assert "speakera-0.flac" in bad["speakera-0"] and "1 samples" in bad["speakera-0"]
    source = batch_source(recipe, tmp_path, tokenizer)
    found = rows(list(source.train_batches(1)))
    assert {item.id for item in source.bad_utterances} == bad.keys()
    assert len(found) == 34 and found.keys().isdisjoint(bad)
    with pytest.raises(UserError, match=r"2 of 36 .*first: speakera-0: .*speakera-0\.flac"):
        compute_features(config(storage=storage, max_bad_share=0.0), tmp_path, 1, quiet)


def test_a_short_training_utterance_is_padded(an4: Path, tmp_path: Path) -> None:
    write(an4, "speakerc-1", 700)
    recipe = recipe_of(min_cut_seconds=0.0)
    tokenizer = run_stages(recipe, tmp_path, an4)
    found = rows(list(batch_source(recipe, tmp_path, tokenizer).train_batches(1)))
    assert found["speakerc-1"].shape == (7, 20)
    torch.testing.assert_close(found["speakerc-1"][4:], torch.full((3, 20), SILENCE))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("speeds", [[0.9, 1.0, 1.1], [1.1, 0.9]])
def test_too_short_at_one_speed_is_left_out_at_all(
    an4: Path, tmp_path: Path, storage: str, speeds: list[float]
) -> None:
    write(an4, "speakera-0", 165)
    recipe = recipe_of(storage=storage, speeds=speeds, min_cut_seconds=0.0)
    source = batch_source(recipe, tmp_path, run_stages(recipe, tmp_path, an4))
    for epoch in range(1, 4):
        assert "speakera-0" not in rows(list(source.train_batches(epoch)))
    (bad,) = source.bad_utterances
    assert bad.id == "speakera-0"
    assert "shorter than one feature frame" in bad.reason


def test_resampled_audio_of_a_sample_or_none(tmp_path: Path) -> None:
    """At 44.1 kHz two samples are less than one at 16 kHz."""
    corpus = make_an4(tmp_path / "an4", rate=44100)
    write(corpus, "speakera-0", 1, 44100)
    write(corpus, "tester-0", 2, 44100)
    write(corpus, "tester-1", 300, 44100)
    for storage in STORAGES:
        recipe = recipe_of(storage=storage, resample=True, speeds=[0.9, 1.0])
        tokenizer = run_stages(recipe, tmp_path / storage, corpus)
        (batch,) = eval_batches(recipe, tmp_path / storage, "test", tokenizer, 100.0)
        assert batch.unheard == {"tester-0", "tester-1"}
        assert [item.id for item in batch_source(recipe, tmp_path / storage, tokenizer).bad_utterances] == [
            "speakera-0"
        ]


@pytest.mark.parametrize("storage", STORAGES)
def test_other_bad_audio_in_dev_is_an_error(an4: Path, tmp_path: Path, storage: str) -> None:
    write(an4, "speakere-0", 1)
    path = audio_path(an4, "speakere-1")
    recipe = config(storage=storage)
    path.write_bytes(path.read_bytes()[:500])
    prepare(recipe.data, tmp_path, an4, False, quiet)
    with pytest.raises(UserError, match=r"dev: speakere-1: .*speakere-1\.flac"):
        compute_features(recipe, tmp_path, 1, quiet)
