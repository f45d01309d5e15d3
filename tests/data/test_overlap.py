"""Training utterances in evaluation sets: found by id, by file and by content."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from slimasr.data.manifests import prepare
from slimasr.errors import UserError
from tests.data.corpus import audio_path, config, quiet


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
