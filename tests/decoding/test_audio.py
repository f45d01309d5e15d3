"""Pieces of audio files against signals of known frequency and length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from slimasr.decoding.transcription.audio import read_pieces
from slimasr.decoding.transcription.cutting import quietest_cut
from slimasr.errors import UserError

RATE = 16000


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [8000, 11127, 16000, 44100, 48000])
@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_any_rate_keeps_pitch_and_length(tmp_path: Path, rate: int, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, tone(1.0, rate), rate)
    (samples,) = read_pieces(path, RATE, 30.0)
    assert samples.dtype == np.float32
    assert abs(len(samples) - RATE) <= 1
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() == pytest.approx(440, abs=1)
    # The ends aside, where the filter sees silence.
    np.testing.assert_allclose(samples[1000:-1000], tone(1.0, RATE)[1000 : len(samples) - 1000], atol=0.01)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(0.5, RATE, 300), tone(0.5, RATE, 1000)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    (samples,) = read_pieces(tmp_path / "a.wav", RATE, 30.0)
    np.testing.assert_allclose(samples, (left + right) / 2, atol=1e-6)


def test_long_audio_is_cut_at_pauses_and_nothing_is_lost(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = [0.1 * rng.normal(size=round(RATE * rng.uniform(0.4, 0.9))) for _ in range(60)]
    pause = 0.0001 * rng.normal(size=RATE // 4)
    speech = np.concatenate([part for word in words for part in (word, pause)])
    soundfile.write(tmp_path / "a.wav", speech, RATE, subtype="FLOAT")
    pieces = list(read_pieces(tmp_path / "a.wav", RATE, 5.0))
    np.testing.assert_allclose(np.concatenate(pieces), speech, atol=1e-6)
    assert len(pieces) >= len(speech) / (5 * RATE)
    assert max(map(len, pieces)) <= 5 * RATE
    assert min(map(len, pieces[:-1])) >= 2.5 * RATE
    for piece in pieces[:-1]:
        assert np.abs(piece[-RATE // 20 :]).max() < 0.001


def test_cut_is_in_the_quietest_place_of_the_second_half() -> None:
    samples = np.ones(4 * RATE, dtype=np.float32)
    samples[RATE // 2 : RATE] = 0.0
    samples[3 * RATE : 3 * RATE + RATE // 5] = 0.01
    assert quietest_cut(samples, RATE) == pytest.approx(3.1 * RATE, abs=RATE // 100)


def test_a_file_of_whole_windows_ends_with_speech(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(4.0, RATE), RATE)
    pieces = list(read_pieces(tmp_path / "a.wav", RATE, 2.0))
    assert sum(map(len, pieces)) == 4 * RATE
    (whole,) = read_pieces(tmp_path / "a.wav", RATE, 4.0)
    assert len(whole) == 4 * RATE


def test_very_short_audio_is_given_as_it_is(tmp_path: Path) -> None:
    """Silence is added to features, by the front end's needs (`slimasr.data.features.frames`)."""
    soundfile.write(tmp_path / "a.wav", np.full(3, 0.5), RATE)
    (samples,) = read_pieces(tmp_path / "a.wav", RATE, 30.0)
    assert samples.tolist() == [0.5] * 3


def missing(path: Path) -> None:
    """Nothing is there."""


def text(path: Path) -> None:
    path.write_text("this is not audio\n")


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0), RATE, format="WAV")


def not_finite(path: Path) -> None:
    soundfile.write(path, np.array([0.1, np.nan, 0.2]), RATE, format="WAV", subtype="FLOAT")


def truncated_flac(path: Path) -> None:
    soundfile.write(path, np.random.default_rng(0).normal(size=5 * RATE) / 10, RATE, format="FLAC")
    path.write_bytes(path.read_bytes()[:60_000])


def damaged_flac(path: Path) -> None:
    soundfile.write(path, np.random.default_rng(0).normal(size=5 * RATE) / 10, RATE, format="FLAC")
    content = bytearray(path.read_bytes())
    content[30_000:60_000] = bytes(30_000)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (missing, "no such file"),
        (text, "not a readable audio file"),
        (nothing, "not a readable audio file"),
        (no_samples, "holds no samples"),
        (not_finite, "not finite"),
        (truncated_flac, "truncated|not a readable"),
        (damaged_flac, "truncated|not a readable"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, damage: Callable[[Path], None], match: str) -> None:
    path = tmp_path / "bad.wav"
    damage(path)
    with pytest.raises(UserError, match=match) as error:
        list(read_pieces(path, RATE, 30.0))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
