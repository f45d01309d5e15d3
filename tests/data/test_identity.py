"""What a set of utterances is: every change is noticed and named, and nothing else is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from lhotse import MonoCut, SupervisionSegment
from lhotse.utils import fastcopy

from slimasr.data.audio.recordings import read_recording
from slimasr.data.identity.digests import AudioStamp, Identity, check_audio_unchanged, identify
from slimasr.errors import UserError
from tests.data.corpus import write_audio


def make_cut(path: Path, *, check_audio: bool = False) -> MonoCut:
    recording = read_recording(path, path.stem)
    said = SupervisionSegment(path.stem, path.stem, 0.0, recording.duration, text="YES NO", speaker="s", language="en")
    stamp = AudioStamp.of_file(path, content=check_audio)
    return MonoCut(path.stem, 0.0, recording.duration, 0, [said], recording=recording, custom=stamp.to_custom())


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    write_audio(path, 0.1 * np.random.default_rng(0).standard_normal(8000), 16000)
    return path


def touch(path: Path) -> None:
    """Another modification time, whatever the clock's resolution."""
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000))


def test_the_same_cuts_have_the_same_identity(audio: Path) -> None:
    first, again = identify([make_cut(audio)]), identify([make_cut(audio)])
    assert first == again
    assert first.changes(again) == []
    assert Identity.from_dict(first.to_dict()) == first


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"text": "YES"}, "transcripts"),
        ({"text": "yes no"}, "transcripts"),
        ({"speaker": "t"}, "times, speakers or languages of utterances"),
        ({"language": "de"}, "times, speakers or languages of utterances"),
        ({"duration": 0.25}, "times, speakers or languages of utterances"),
    ],
)
def test_what_was_said_by_whom_and_when(audio: Path, change: dict[str, object], words: str) -> None:
    cut = make_cut(audio)
    other = fastcopy(cut, supervisions=[fastcopy(cut.supervisions[0], **change)])
    assert identify([cut]).changes(identify([other])) == [words]
    assert identify([cut]).fingerprint != identify([other]).fingerprint


def test_more_utterances_and_another_order_are_noticed(audio: Path) -> None:
    cut = make_cut(audio)
    other = cut.with_id("b")
    assert "utterances" in identify([cut]).changes(identify([cut, other]))
    assert identify([cut, other]) != identify([other, cut])


def test_audio_of_another_length_and_audio_made_again(audio: Path) -> None:
    before = make_cut(audio)
    touch(audio)
    assert identify([before]).changes(identify([make_cut(audio)])) == ["modification times of audio files"]
    write_audio(audio, np.zeros(9000), 16000)
    assert "audio files" in identify([before]).changes(identify([make_cut(audio)]))


def test_with_its_content_known_an_audio_file_may_be_touched_but_not_changed(audio: Path) -> None:
    before = make_cut(audio, check_audio=True)
    touch(audio)
    after = make_cut(audio, check_audio=True)
    assert identify([before]).changes(identify([after])) == []
    assert identify([before]).fingerprint == identify([after]).fingerprint
    check_audio_unchanged([before], "train")
    write_audio(audio, 0.2 * np.random.default_rng(1).standard_normal(8000), 16000)
    assert identify([before]).changes(identify([make_cut(audio, check_audio=True)])) == ["content of audio files"]
    with pytest.raises(UserError, match=r"train: 1 audio file has changed since stage 1, first .*a\.wav: run stages 1"):
        check_audio_unchanged([before], "train")


def test_without_it_the_modification_time_decides(audio: Path) -> None:
    cut = make_cut(audio)
    check_audio_unchanged([cut], "train")
    touch(audio)
    with pytest.raises(UserError, match="has changed since stage 1"):
        check_audio_unchanged([cut], "train")
    audio.unlink()
    check_audio_unchanged([cut], "train")  # stored features do not need it


def test_reading_the_content_later_is_no_change(audio: Path) -> None:
    before, after = identify([make_cut(audio)]), identify([make_cut(audio, check_audio=True)])
    assert before.changes(after) == after.changes(before) == []
    touch(audio)
    assert after.changes(identify([make_cut(audio)])) == ["modification times of audio files"]


def test_manifests_from_elsewhere_have_an_identity_too(audio: Path) -> None:
    cut = fastcopy(make_cut(audio), custom=None)
    assert identify([cut]) == identify([cut])
    touch(audio)
    check_audio_unchanged([cut], "train")
