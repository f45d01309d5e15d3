"""What stages 1 and 2 do with audio that is cut short, of unknown length or out of range."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import AudioSource, CutSet, Recording
from lhotse.audio.backend import get_current_audio_backend
from lhotse.cut import Cut

from slimasr.config.schema import Config
from slimasr.data.audio.recordings import AudioError, load_samples
from slimasr.data.features.stage import compute_features
from slimasr.data.files import DataFolder
from slimasr.data.manifests.stage import prepare
from slimasr.data.memory.dataloading import BatchSource
from slimasr.data.tokens.stage import train_tokenizer
from slimasr.errors import UserError
from tests.data.corpus import audio_path, batch_source, config, make_an4, quiet
from tests.data.spoilt import RATE, flac_without_length, speech, wav_with_size


def prepared(corpus: Path, recipe: Config) -> DataFolder:
    folder = DataFolder(corpus.parent / "data")
    prepare(recipe.data, folder.root, corpus, False, quiet)
    return folder


def reasons(path: Path) -> dict[str, str]:
    return {item["id"]: item["reason"] for item in json.loads(path.read_text())}


def trained_utterances(source: BatchSource) -> set[str]:
    return {name for batch in source.train_batches(0) for name in batch.ids}


@pytest.mark.parametrize("suffix", [".wav", ".sph"])
def test_truncated_training_audio_is_listed_by_stage_1(tmp_path: Path, suffix: str) -> None:
    corpus = make_an4(tmp_path / "an4", suffix=suffix)
    whole, cut = (audio_path(corpus, name, suffix) for name in ("speakera-0", "speakerb-3"))
    cut.write_bytes(cut.read_bytes()[:-2000])
    listed = reasons(prepared(corpus, config()).raw_bad("train"))
    assert list(listed) == ["speakerb-3"]
    assert listed["speakerb-3"].startswith(f"{cut.resolve()}: is truncated: its header claims ")
    assert whole.is_file()
    cut = audio_path(corpus, "speakere-2", suffix)
    cut.write_bytes(cut.read_bytes()[:-2])
    with pytest.raises(UserError, match=rf"dev: speakere-2: .*speakere-2{suffix}: is truncated"):
        prepared(corpus, config())


def test_too_many_truncated_files_stop_stage_1(tmp_path: Path) -> None:
    corpus = make_an4(tmp_path / "an4", suffix=".wav")
    for number in range(4):
        path = audio_path(corpus, f"speakera-{number}", ".wav")
        path.write_bytes(path.read_bytes()[:9999])
    with pytest.raises(UserError, match=r"4 of 36 training utterances cannot be used.*first: speakera-0: .*truncated"):
        prepared(corpus, config(max_bad_share=0.1))


def test_audio_of_unknown_length_is_trained_on_whole(tmp_path: Path) -> None:
    for suffix, unknown in ((".wav", lambda content: wav_with_size(content, 0)), (".flac", flac_without_length)):
        corpus = make_an4(tmp_path / suffix / "an4", suffix=suffix)
        path = audio_path(corpus, "speakera-1", suffix)
        length = soundfile.info(path).frames
        path.write_bytes(unknown(path.read_bytes()))
        folder = prepared(corpus, config())
        assert reasons(folder.raw_bad("train")) == {}
        compute_features(config(), folder.root, 1, quiet)
        assert reasons(folder.bad("train")) == {}
        cut = CutSet.from_file(folder.cuts("train")).to_eager()["speakera-1"]
        assert cut.recording.num_samples == length
        assert abs(cut.num_frames - length / 160) <= 1


@pytest.mark.parametrize("storage", ["precomputed", "on_the_fly"])
def test_floats_out_of_range_are_listed_by_stage_2(tmp_path: Path, storage: str) -> None:
    corpus = make_an4(tmp_path / "an4", suffix=".wav")
    loud = audio_path(corpus, "speakerc-1", ".wav")
    soundfile.write(loud, speech(peak=21_000), RATE, subtype="FLOAT")
    mastered = audio_path(corpus, "speakerc-2", ".wav")
    soundfile.write(mastered, speech(peak=2.5), RATE, subtype="FLOAT")
    recipe = config(storage=storage)
    folder = prepared(corpus, recipe)
    compute_features(recipe, folder.root, 1, quiet)
    listed = reasons(folder.bad("train"))
    assert list(listed) == ["speakerc-1"]
    assert listed["speakerc-1"] == (
        f"{loud.resolve()}: reaches 21000 where full scale is 1 (float samples out of range); "
        "divide its samples by 32768"
    )
    source = batch_source(recipe, folder.root, train_tokenizer(recipe, folder.root))
    trained = trained_utterances(source)
    assert "speakerc-1" not in trained
    assert "speakerc-2" in trained


def test_floats_out_of_range_in_a_test_set_stop_stage_2(tmp_path: Path) -> None:
    corpus = make_an4(tmp_path / "an4", suffix=".wav")
    soundfile.write(audio_path(corpus, "tester-1", ".wav"), speech(peak=-400) * 50, RATE, subtype="DOUBLE")
    folder = prepared(corpus, config())
    with pytest.raises(UserError, match=r"test: tester-1: .*tester-1\.wav: reaches 20000 .* divide"):
        compute_features(config(), folder.root, 1, quiet)


def test_audio_that_goes_out_of_range_later_stops_on_the_fly_training(tmp_path: Path) -> None:
    corpus = make_an4(tmp_path / "an4", suffix=".wav")
    recipe = config(storage="on_the_fly")
    folder = prepared(corpus, recipe)
    compute_features(recipe, folder.root, 1, quiet)
    source = batch_source(recipe, folder.root, train_tokenizer(recipe, folder.root))
    path = audio_path(corpus, "speakerc-1", ".wav")
    samples = soundfile.read(path)[0]
    soundfile.write(path, np.round(samples * 32768), RATE, subtype="FLOAT")
    with pytest.raises(UserError, match=r"speakerc-1: .*speakerc-1\.wav: reaches .* divide its samples by 32768"):
        trained_utterances(source)


def test_lhotse_reads_audio_as_before_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(1600), 16000)
    cut = Recording.from_file(path).to_cut()
    path.write_bytes(b"not audio")
    with pytest.raises(AudioError):
        load_samples(cut)
    soundfile.write(path, np.zeros(1600), 16000)
    assert Recording.from_file(path).num_samples == 1600


def in_memory(content: bytes) -> Cut:
    """A second of audio as it comes from a shard."""
    return Recording("r", [AudioSource("memory", [0], content)], RATE, RATE, 1.0).to_cut()


def test_damaged_audio_in_memory_is_named_as_the_caller_says(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", speech(RATE), RATE)
    soundfile.write(tmp_path / "loud.wav", speech(RATE, peak=21_000), RATE, subtype="FLOAT")
    # lhotse fills up what lacks half a second.
    soundfile.write(tmp_path / "short.wav", speech(RATE // 4), RATE)
    whole, loud, short = ((tmp_path / name).read_bytes() for name in ("a.flac", "loud.wav", "short.wav"))
    assert load_samples(in_memory(whole)).shape == (1, RATE)
    for content, reason in (
        (whole[:4000] + bytes(4000) + whole[8000:], "cannot be decoded: damaged "),
        (b"no audio", "cannot be decoded: damaged "),
        (loud, "reaches 21000 where full scale is 1 "),
        (short, "is not as long as its manifest says; restore the shard"),
    ):
        for name in ("", "x.tar"):
            with pytest.raises(AudioError, match=re.escape(f"{name or 'r'}: {reason}")) as raised:
                load_samples(in_memory(content), name)
            assert "\n" not in str(raised.value)


def test_threads_leave_lhotse_as_it_was(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", speech(RATE), RATE)
    cut = in_memory((tmp_path / "a.flac").read_bytes())
    before = get_current_audio_backend()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(load_samples, [cut] * 200))
    assert get_current_audio_backend() is before
