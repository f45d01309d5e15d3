"""Changes of training utterances: what they do to audio and features, and that the draws depend on nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from slimasr.config.schema import Config
from slimasr.data.audio.recordings import load_samples
from slimasr.data.augmentation.augment import Augmentation, amplified, read_augmentation
from slimasr.data.augmentation.folders import cut_of_file, list_folders
from slimasr.data.augmentation.rooms import random_response, reverberation
from slimasr.data.augmentation.telephone import over_telephone
from slimasr.data.features.frames import SILENCE, extract_frames
from slimasr.data.features.shards import make_extractor
from slimasr.data.files import DataFolder
from slimasr.data.memory.dataloading import BatchSource
from slimasr.data.memory.training_cuts import read_feature_cuts
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.errors import UserError
from tests.data.corpus import batch_source, config, run_stages

SPEEDS = [0.9, 1.0, 1.1]
ALWAYS = {"range_db": [-30.0, 6.0], "probability": 1.0}
Prepared = tuple[Path, Tokenizer]


def _by_utterance(source: BatchSource, epoch: int = 1, skip: int = 0) -> dict[str, torch.Tensor]:
    """The features of every utterance of an epoch, without padding."""
    found = {}
    for batch in source.train_batches(epoch, skip=skip):
        found |= {name: batch.x[row, : int(batch.x_lens[row])] for row, name in enumerate(batch.ids)}
    return found


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("gain_db", [-60.0, -30.0, -3.5, 6.0])
def test_gain_of_features_is_that_of_audio(gain_db: float) -> None:
    rng = np.random.default_rng(0)
    # Speech-like: loud and quiet parts, and digital silence.
    samples = (rng.standard_normal((1, 16000)) * np.repeat([0.1, 1e-3, 1e-5, 0.0], 4000)).astype(np.float32)
    extractor = make_extractor(20, 16000)
    before = extract_frames(extractor, samples, 16000)
    after = extract_frames(extractor, samples * np.float32(10 ** (gain_db / 20)), 16000)
    found = amplified(before, gain_db)
    silent = before <= SILENCE + 2.0**-5
    assert 0.2 < silent.mean() < 0.6
    np.testing.assert_allclose(found[~silent], after[~silent], atol=2e-3)
    assert (found[before == before.min()] == np.float32(SILENCE)).all()
    # Energy below the floor is not known: digital silence is exact, the rest no further off than the gain.
    assert np.abs(found - after).max() <= max(0.0, gain_db) * np.log(10) / 10 + 2e-3


def test_gain_of_stored_features_equals_scaled_audio_within_the_steps_of_storage(prepared: Prepared) -> None:
    data_dir, _ = prepared
    gain = 10 ** (-12.0 / 20)
    extractor = make_extractor(20, 16000)
    for cut in list(read_feature_cuts(DataFolder(data_dir), "train"))[:5]:
        exact = extract_frames(extractor, load_samples(cut) * np.float32(gain), 16000, cut.duration)
        np.testing.assert_allclose(amplified(cut.load_features(), -12.0), exact, atol=2.0**-5)


def test_gains_are_drawn_per_utterance_and_epoch_from_the_seed_alone(prepared: Prepared) -> None:
    recipe = config(speeds=SPEEDS, gain=ALWAYS)
    clean, loud = (batch_source(item, *prepared, seed=3) for item in (config(speeds=SPEEDS), recipe))
    whole = _by_utterance(loud)
    factor = np.log(10) / 10
    gains = {}
    for name, features in _by_utterance(clean).items():
        kept = whole[name] > SILENCE + 0.1
        # One gain for all of an utterance.
        shift = (whole[name] - features)[kept] / factor
        gains[name] = float(shift.median())
        assert (shift - gains[name]).abs().max() < 1e-3
    assert -30 <= min(gains.values()) < -20
    assert 0 < max(gains.values()) <= 6
    assert len({round(gain, 3) for gain in gains.values()}) == len(gains)
    # The same again, in parts, on two ranks and in a worker process; not in another epoch or with another seed.
    assert _equal(whole, _by_utterance(batch_source(recipe, *prepared, seed=3)))
    rest = _by_utterance(loud, skip=3)
    assert rest
    assert all(torch.equal(whole[name], features) for name, features in rest.items())
    ranks = [batch_source(recipe, *prepared, seed=3, rank=rank, world_size=2) for rank in range(2)]
    assert _equal(whole, _by_utterance(ranks[0]) | _by_utterance(ranks[1]))
    working = recipe.model_copy(update={"data": recipe.data.model_copy(update={"num_workers": 1})})
    assert _equal(whole, _by_utterance(batch_source(working, *prepared, seed=3)))
    assert not _equal(whole, _by_utterance(loud, epoch=2))
    assert not _equal(whole, _by_utterance(batch_source(recipe, *prepared, seed=4)))


def test_batches_without_augmentation_are_those_of_a_recipe_that_never_changes_anything(prepared: Prepared) -> None:
    never = config(speeds=SPEEDS, gain={"probability": 0.0})
    assert read_augmentation(config(speeds=SPEEDS), DataFolder(prepared[0])) is None
    assert _equal(*(_by_utterance(batch_source(item, *prepared)) for item in (config(speeds=SPEEDS), never)))


@pytest.fixture(scope="module")
def on_the_fly(tmp_path_factory: pytest.TempPathFactory, _made_once: Path) -> tuple[Config, Path, Tokenizer]:
    """The tiny corpus without stored features, with folders of noise and of recorded rooms."""
    root = tmp_path_factory.mktemp("augment")
    rng = np.random.default_rng(1)
    for name in ("noise/street/cars.wav", "noise/fan.flac"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, 0.05 * rng.standard_normal(8000 * 12), 8000)
    (root / "rooms").mkdir()
    soundfile.write(root / "rooms" / "hall.wav", np.r_[np.zeros(50), 0.5, np.zeros(799), 0.25, np.zeros(200)], 16000)
    (root / "rooms" / "readme.txt").write_text("no audio")
    recipe = config(
        storage="on_the_fly",
        noise={"folder": str(root / "noise"), "snr": [5.0, 5.0], "probability": 1.0},
        reverb={"folder": str(root / "rooms"), "probability": 1.0},
    )
    return recipe, root / "data", run_stages(recipe, root / "data", _made_once)


def _with(recipe: Config, **data: Any) -> Config:
    off = {"noise": None, "reverb": None}
    fields = {**recipe.model_dump()["data"], **off, **data}
    return recipe.model_copy(update={"data": type(recipe.data).model_validate(fields)})


def test_noise_and_recorded_rooms_change_audio_as_the_recipe_says(on_the_fly: tuple[Config, Path, Tokenizer]) -> None:
    recipe, data_dir, _ = on_the_fly
    folder = DataFolder(data_dir)
    cuts = [cut for cut in read_feature_cuts(folder, "train") if cut.duration > 1.0][:4]
    noisy = read_augmentation(_with(recipe, noise=recipe.data.noise), folder)
    roomy = read_augmentation(_with(recipe, reverb=recipe.data.reverb), folder)
    assert noisy is not None
    assert roomy is not None
    for cut in cuts:
        clean = load_samples(cut)
        mixed = noisy.of(0, 1).cut(cut)
        assert (mixed.id, mixed.duration, mixed.supervisions[0].text) == (
            cut.id,
            cut.duration,
            cut.supervisions[0].text,
        )
        noise = load_samples(mixed) - clean
        # lhotse ends the noise shortly before the utterance.
        heard = slice(0, clean.shape[1] - 1600)
        snr = 10 * np.log10(np.square(clean).mean() / np.square(noise[:, heard]).mean())
        assert snr == pytest.approx(5.0, abs=0.3)
        # An echo of half the amplitude after 800 samples, with the energy of the original.
        echo = load_samples(roomy.of(0, 1).cut(cut))
        expected = clean + 0.5 * np.pad(clean, ((0, 0), (800, 0)))[:, : clean.shape[1]]
        expected *= np.sqrt(np.square(clean).sum() / np.square(expected).sum())
        np.testing.assert_allclose(echo, expected, atol=1e-4)


def test_a_silent_response_is_refused(on_the_fly: tuple[Config, Path, Tokenizer], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "mute.wav", np.zeros(800), 16000)
    rooms = [cut_of_file(tmp_path / "mute.wav", "mute", 16000)]
    (cut, *_) = read_feature_cuts(DataFolder(on_the_fly[1]), "train")
    changes = Augmentation(_with(on_the_fly[0], reverb=on_the_fly[0].data.reverb).data, "0/1", rooms=rooms)
    with pytest.raises(UserError, match=r"data\.reverb\.folder: .*mute\.wav: is silent; remove it"):
        changes.cut(cut)


def test_all_changes_together_keep_frames_and_are_the_same_again(on_the_fly: tuple[Config, Path, Tokenizer]) -> None:
    recipe, data_dir, tokenizer = on_the_fly
    changed = {"gain": ALWAYS, "reverb": {"probability": 0.5}, "telephone": {"probability": 0.5}}
    everything = _with(recipe, noise={**recipe.data.model_dump()["noise"], "probability": 0.5}, **changed)
    clean = _by_utterance(batch_source(_with(recipe), data_dir, tokenizer))
    found = _by_utterance(batch_source(everything, data_dir, tokenizer))
    assert {name: len(rows) for name, rows in clean.items()} == {name: len(rows) for name, rows in found.items()}
    assert not any(torch.equal(clean[name], found[name]) for name in clean)
    assert _equal(found, _by_utterance(batch_source(everything, data_dir, tokenizer)))
    # One kind of change does not move the draws of another.
    alone = Augmentation(_with(recipe, gain=ALWAYS).data, "0/1")
    together = Augmentation(everything.data, "0/1")
    assert [alone._gain(name) for name in clean] == [together._gain(name) for name in clean]


def test_noise_is_mixed_into_stored_features_too(
    on_the_fly: tuple[Config, Path, Tokenizer], tmp_path: Path, an4: Path
) -> None:
    noise = {**on_the_fly[0].data.model_dump()["noise"], "probability": 0.5}
    recipe = _with(on_the_fly[0], storage="precomputed", noise=noise)
    tokenizer = run_stages(recipe, tmp_path, an4)
    clean = _by_utterance(batch_source(_with(recipe), tmp_path, tokenizer))
    found = _by_utterance(batch_source(recipe, tmp_path, tokenizer))
    changed = [name for name in clean if not torch.equal(clean[name], found[name])]
    assert 8 <= len(changed) <= 28, "of 36, a fair coin"
    for name in changed:
        # Noise adds energy; what lhotse computes from features is that of sums of energies.
        assert clean[name].shape == found[name].shape
        assert (found[name] > clean[name] - 1e-3).all()
    ranks = [batch_source(recipe, tmp_path, tokenizer, rank=rank, world_size=2) for rank in range(2)]
    assert _equal(found, _by_utterance(ranks[0]) | _by_utterance(ranks[1]))


def test_folders_that_have_changed_are_named(on_the_fly: tuple[Config, Path, Tokenizer], tmp_path: Path) -> None:
    recipe, data_dir, _ = on_the_fly
    with pytest.raises(UserError, match=r"was made from .*noise, the recipe names elsewhere: run stage 1"):
        read_augmentation(_with(recipe, noise={"folder": "elsewhere"}), DataFolder(data_dir))
    with pytest.raises(UserError, match="which lists the audio of elsewhere: run stage 1"):
        read_augmentation(_with(recipe, noise={"folder": "elsewhere"}), DataFolder(tmp_path))
    (tmp_path / "empty").mkdir()
    for name, message in (("missing", "missing is no folder"), ("empty", "empty holds no audio file")):
        with pytest.raises(UserError, match=f"data.noise.folder: .*{message}"):
            list_folders(_with(recipe, noise={"folder": str(tmp_path / name)}).data)


@pytest.mark.parametrize(("seconds", "direct_db"), [(0.2, 6.0), (0.7, -3.0)])
def test_random_rooms_decay_in_time_and_have_their_level(seconds: float, direct_db: float) -> None:
    response = random_response(seconds, direct_db, 16000, np.random.default_rng(0))[0].astype(np.float64)
    tail = response[1:]
    assert 20 * np.log10(response[0] / np.sqrt(np.square(tail).sum())) == pytest.approx(direct_db, abs=0.01)
    # Schroeder's backward integration: the level falls on a straight line, here from -5 to -25 dB.
    level = 10 * np.log10(np.cumsum(np.square(tail)[::-1])[::-1] / np.square(tail).sum())
    times = np.interp([5.0, 25.0], -level, np.arange(len(tail)) / 16000)
    assert 3.0 * (times[1] - times[0]) == pytest.approx(seconds, rel=0.1)
    speech = np.random.default_rng(1).standard_normal((1, 8000)).astype(np.float32)
    heard = reverberation(response[np.newaxis].astype(np.float32))(speech, 16000)
    expected = np.convolve(speech[0].astype(np.float64), response)[:8000]
    expected *= np.sqrt(np.square(speech).sum() / np.square(expected).sum())
    np.testing.assert_allclose(heard[0], expected, atol=1e-3)


@pytest.mark.parametrize("codec", ["none", "mulaw", "alaw", "gsm", "opus"])
def test_telephones_pass_their_band_without_delay(codec: Any) -> None:
    times = np.arange(16001) / 16000
    level = {}
    for hertz in (60.0, 1000.0, 6000.0):
        tone = 0.3 * np.sin(2 * np.pi * hertz * times)[np.newaxis].astype(np.float32)
        heard = over_telephone(tone, 16000, codec)
        assert heard.shape == tone.shape
        middle = slice(4000, 12000)
        level[hertz] = float(np.square(heard[:, middle]).mean() / np.square(tone[:, middle]).mean())
        if hertz == 1000.0:
            # A delay of a quarter of a period, 4 samples, would make this zero.
            assert np.corrcoef(heard[0, middle], tone[0, middle])[0, 1] > 0.95
    assert 0.5 < level[1000.0] < 1.1
    assert level[60.0] < 0.1
    assert level[6000.0] < 0.01


def test_g711_rounds_to_the_steps_of_mu_law() -> None:
    samples = np.linspace(-0.9, 0.9, 1601, dtype=np.float32)[np.newaxis]
    from slimasr.data.augmentation.telephone import _coded

    coded = _coded(samples, "mulaw")
    # The continuous law of G.711 with mu = 255 in 256 steps: the largest error is half a step of the compressed scale.
    compressed = [np.sign(x) * np.log1p(255 * np.abs(x)) / np.log(256) for x in (samples, coded)]
    assert np.abs(compressed[0] - compressed[1]).max() < 1.3 / 128
    assert len(np.unique(coded)) < 256


def test_silence_stays_silence_over_a_telephone() -> None:
    assert not over_telephone(np.zeros((1, 999), dtype=np.float32), 16000, "gsm").any()


@pytest.mark.parametrize("storage", ["precomputed", "on_the_fly"])
def test_reverb_and_telephone_need_audio(storage: str) -> None:
    for key in ("reverb", "telephone"):
        if storage == "on_the_fly":
            assert getattr(config(storage=storage, **{key: {}}).data, key) is not None
            continue
        with pytest.raises(ValueError, match=f"{key}: changes audio, not stored features; set data.storage"):
            config(storage=storage, **{key: {}})
