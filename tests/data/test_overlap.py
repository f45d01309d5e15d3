"""Training utterances in evaluation sets: found by id, by file and by content."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from lhotse import MonoCut, Recording

from slimasr.data.manifests.overlap import shared_utterances
from slimasr.data.manifests.stage import prepare
from slimasr.errors import UserError
from tests.data.corpus import audio_path, config, quiet
from tests.data.own import RATE, write_wav


def run_prepare(an4: Path, data_dir: Path, *, check_audio: bool = False, **data: object) -> dict[str, int]:
    return prepare(config(**data).data, data_dir, an4, False, quiet, check_audio=check_audio)


def test_a_set_used_twice(an4: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="training set dev and set dev share 4 utterances .*for example speakere-0"):
        run_prepare(an4, tmp_path / "data", train=["train", "dev"])
    assert not (tmp_path / "data" / "manifests").exists()
    run_prepare(an4, tmp_path / "data", train=["train", "dev"], allow_overlap=True)


@pytest.mark.parametrize("how", ["copy", "hardlink", "symlink"])
@pytest.mark.parametrize("check_audio", [False, True])
def test_the_same_audio_under_another_name(an4: Path, tmp_path: Path, how: str, check_audio: bool) -> None:
    source, target = audio_path(an4, "speakerb-2"), audio_path(an4, "tester-1")
    target.unlink()
    {"copy": shutil.copyfile, "hardlink": os.link, "symlink": os.symlink}[how](source, target)
    with pytest.raises(UserError, match="set train and set test share 1 utterances .*for example tester-1"):
        run_prepare(an4, tmp_path / "data", check_audio=check_audio)


def test_evaluation_sets_may_share(an4: Path, tmp_path: Path) -> None:
    assert run_prepare(an4, tmp_path / "data", dev="test", test=["test"]) == {"train": 36, "test": 4}


def test_segments_of_one_recording_are_the_same_only_where_they_overlap(tmp_path: Path) -> None:
    def cut(name: str, file: str, start: float, duration: float, channel: int = 0) -> MonoCut:
        return replace(recorded[file], id=name, start=start, duration=duration, channel=channel)

    write_wav(tmp_path / "a.wav", 3 * RATE, channels=2)
    shutil.copyfile(tmp_path / "a.wav", tmp_path / "copy.wav")
    recorded = {name: Recording.from_file(tmp_path / f"{name}.wav").to_cut().to_mono()[0] for name in ("a", "copy")}
    train = [cut("t1", "a", 0.0, 1.0), cut("t2", "a", 2.0, 1.0)]
    other = [
        cut("neighbour", "a", 0.95, 1.0),
        cut("same", "a", 0.1, 0.8),
        cut("most", "a", 1.9, 1.0),
        cut("channel", "a", 0.0, 1.0, channel=1),
        cut("copied neighbour", "copy", 1.0, 1.0),
        cut("copied", "copy", 2.1, 0.9),
        cut("t1", "copy", 1.0, 1.0),
    ]
    assert shared_utterances(train, other) == ["same", "most", "copied", "t1"]
