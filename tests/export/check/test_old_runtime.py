"""An exported bundle in an onnxruntime of 2024 and numpy 1: sound, and with the text of the present one."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from slimasr.export.check.audio import synthetic_audio
from slimasr.export.device import Recognizer, open_bundle, read_wav
from tests.export.check.conftest import Place
from tests.export.old_runtime import old_python, run_old, transcribed


@pytest.fixture(autouse=True)
def _has_old_runtime() -> None:
    """Skip before a bundle is made."""
    old_python()


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    soundfile.write(path, synthetic_audio(16000)[-1].samples, 16000, subtype="PCM_16")
    return path


def test_a_bundle_is_sound_in_an_old_runtime(made: Place) -> None:
    assert "all files are as written, all sizes run" in run_old("verify", "--bundle", made.bundle)


@pytest.mark.parametrize("int8", [False, True])
def test_an_old_runtime_says_the_same(made: Place, wav: Path, int8: bool) -> None:
    (found,) = transcribed(made.bundle, wav, *(["--int8"] if int8 else []))
    present = Recognizer(open_bundle(made.bundle), int8=int8).transcribe(read_wav(wav, 16000))
    assert (found["text"], tuple(found["frames"])) == (present.text, present.frames)
    assert len(present.tokens) > 50
