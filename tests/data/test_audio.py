"""Audio files: what is read equals what was written, what is broken is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import MonoCut
from lhotse.audio.backend import audio_backend

from slimasr.data.audio.recordings import AudioError, load_samples, read_recording
from tests.data.corpus import write_audio


def _cut(path: Path) -> MonoCut:
    recording = read_recording(path, "u")
    return MonoCut("u", 0.0, recording.duration, 0, recording=recording)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".sph"])
def test_samples_are_those_written(tmp_path: Path, suffix: str) -> None:
    samples = np.random.default_rng(0).integers(-3000, 3000, size=12345).astype(np.int16)
    path = tmp_path / f"a{suffix}"
    write_audio(path, samples, 16000)
    cut = _cut(path)
    assert cut.num_samples == 12345
    np.testing.assert_array_equal(load_samples(cut)[0], samples.astype(np.float32) / 32768)


def test_the_lhotse_default_for_sphere_would_need_a_program(tmp_path: Path) -> None:
    """Why the back end is fixed; when this fails, it need not be any more."""
    path = tmp_path / "a.sph"
    write_audio(path, np.zeros(1000), 16000)
    # Other tests of this process may have made lhotse remember the back end that ours names.
    with audio_backend("default"), pytest.raises(Exception, match="sph2pipe"):
        _cut(path).load_audio()


def _truncated(path: Path) -> None:
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(16000), 16000)
    path.write_bytes(path.read_bytes()[:8000])


def _overwritten(path: Path) -> None:
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(16000), 16000)
    content = bytearray(path.read_bytes())
    content[5000:9000] = bytes(4000)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("spoil", [_truncated, _overwritten])
def test_a_corrupt_flac_is_named(tmp_path: Path, spoil: object) -> None:
    path = tmp_path / "bad.flac"
    assert callable(spoil)
    spoil(path)
    with pytest.raises(AudioError, match=r"bad\.flac"):
        load_samples(_cut(path))


def test_unusable_headers_are_named(tmp_path: Path) -> None:
    stereo, empty, text = tmp_path / "stereo.wav", tmp_path / "empty.wav", tmp_path / "text.flac"
    soundfile.write(stereo, np.zeros((100, 2)), 16000)
    soundfile.write(empty, np.zeros(0), 16000)
    text.write_text("not audio")
    for path, reason in (
        (stereo, "2 channels"),
        (empty, "no samples"),
        (text, "not a readable"),
        (tmp_path / "absent.wav", "no such file"),
    ):
        with pytest.raises(AudioError, match=rf"{path.name}.*{reason}"):
            read_recording(path, "u")


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    samples = np.zeros(1000, dtype=np.float32)
    samples[500] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"nan\.wav.*not finite"):
        load_samples(_cut(tmp_path / "nan.wav"))
