"""Stage 1: what becomes a cut, what is listed as bad, what stops the stage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet

from slimasr.config.schema import Config
from slimasr.data.audio.recordings import load_samples
from slimasr.data.files import DataFolder
from slimasr.data.manifests.stage import prepare
from slimasr.errors import UserError
from tests.data.corpus import audio_path, config, make_an4, quiet, set_text, write_audio


def _prepare(recipe: Config, tmp_path: Path, corpus: Path) -> tuple[dict[str, int], DataFolder]:
    data_dir = tmp_path / "data"
    return prepare(recipe.data, data_dir, corpus, False, quiet), DataFolder(data_dir)


def test_cuts_carry_text_speaker_and_audio(an4: Path, tmp_path: Path) -> None:
    counts, folder = _prepare(config(), tmp_path, an4)
    assert counts == {"train": 36, "dev": 4, "test": 4}
    cuts = CutSet.from_file(folder.raw_cuts("dev"))
    assert [cut.id for cut in cuts] == [f"speakere-{number}" for number in range(4)]
    for cut in cuts:
        (supervision,) = cut.supervisions
        assert supervision.speaker == "speakere"
        assert supervision.duration == cut.duration
        assert f"<s> {supervision.text} </s> ({cut.id})" in (an4 / "etc/an4_train.transcription").read_text()
        assert load_samples(cut).shape == (1, cut.num_samples)


def test_bad_training_utterances_are_listed_and_others_kept(an4: Path, tmp_path: Path) -> None:
    audio_path(an4, "speakera-1").unlink()
    audio_path(an4, "speakerb-2").write_bytes(b"not audio")
    set_text(an4, "train", "speakerc-0", "<s>  </s>")
    counts, folder = _prepare(config(max_bad_share=0.1), tmp_path, an4)
    assert counts["train"] == 33
    bad = {item["id"]: item["reason"] for item in json.loads(folder.raw_bad("train").read_text())}
    assert set(bad) == {"speakera-1", "speakerb-2", "speakerc-0"}
    assert "no such file" in bad["speakera-1"]
    assert "speakerb-2.flac" in bad["speakerb-2"]
    assert "empty transcript" in bad["speakerc-0"]


def test_too_many_bad_training_utterances_stop_the_stage(an4: Path, tmp_path: Path) -> None:
    for number in range(4):
        audio_path(an4, f"speakera-{number}").unlink()
    with pytest.raises(UserError, match=r"4 of 36 .*data\.max_bad_share 0\.1; first: speakera-0"):
        _prepare(config(max_bad_share=0.1), tmp_path, an4)
    assert _prepare(config(max_bad_share=4 / 36), tmp_path, an4)[0]["train"] == 32


@pytest.mark.parametrize("name", ["speakere-0", "tester-0"])
def test_dev_and_test_lose_nothing_silently(an4: Path, tmp_path: Path, name: str) -> None:
    set_text(an4, "train" if name.startswith("speaker") else "test", name, "")
    with pytest.raises(UserError, match=f"{name}.*empty transcript"):
        _prepare(config(max_bad_share=1.0), tmp_path, an4)
    set_text(an4, "train" if name.startswith("speaker") else "test", name, "YES")
    audio_path(an4, name).unlink()
    with pytest.raises(UserError, match=f"{name}.*no such file"):
        _prepare(config(max_bad_share=1.0), tmp_path, an4)


def test_another_rate_is_an_error_or_resampled_with_its_sound_kept(tmp_path: Path) -> None:
    corpus = make_an4(tmp_path / "an4", utterances_per_speaker=1, rate=8000)
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    write_audio(audio_path(corpus, "tester-0"), tone, 8000)
    with pytest.raises(UserError, match=r"sampling rate 8000 .* data\.resample"):
        _prepare(config(), tmp_path, corpus)
    _, folder = _prepare(config(resample=True), tmp_path, corpus)
    (cut,) = CutSet.from_file(folder.raw_cuts("test"))
    samples = load_samples(cut)[0]
    assert cut.sampling_rate == 16000
    assert len(samples) == 16000
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(samples[200:-200], expected[200:-200], atol=1e-3)


def test_an_id_listed_twice_is_named(an4: Path, tmp_path: Path) -> None:
    listing = an4 / "etc" / "an4_train.fileids"
    listing.write_text(listing.read_text() + "an4_clstk/speakera/speakera-0\n")
    with pytest.raises(UserError, match=r"speakera-0 is listed twice"):
        _prepare(config(), tmp_path, an4)
