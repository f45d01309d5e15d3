"""Synthetic digits: the same from the same seed, other voices in other sets, sound that is there."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from slimasr.config.corpora import DigitsOptions
from slimasr.data.corpora.digits import (
    TIMBRES,
    generate,
    list_utterances,
    plan_recordings,
)
from slimasr.data.corpora.fsdd import WORDS
from slimasr.data.synthesis.digit_speech import SAMPLING_RATE, impulse_response, make_audio
from slimasr.data.synthesis.espeak import Espeak
from slimasr.errors import UserError
from tests.data.corpus import quiet

OPTIONS = {"num_train": 12, "num_dev": 4, "num_test": 6}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("espeakng_loader", reason="the extra demo is not installed")
    target = tmp_path_factory.mktemp("digits")
    generate(target, OPTIONS, quiet)
    return target


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def test_all_utterances_sound(digits: Path) -> None:
    sets = list_utterances(digits, ("train", "dev", "test"), OPTIONS)
    assert {name: len(found) for name, found in sets.items()} == {"train": 12, "dev": 4, "test": 6}
    for utterance in (u for found in sets.values() for u in found):
        samples, rate = soundfile.read(utterance.audio)
        assert rate == 16000
        words = utterance.text.split()
        assert 1 <= len(words) <= 7
        assert set(words) <= set(WORDS)
        # A spoken digit takes between a sixth of a second and a second.
        assert len(words) / 6 < len(samples) / rate < len(words) + 0.7
        assert 0.09 < np.abs(samples).max() < 0.91


def test_what_is_there_is_not_made_again(digits: Path) -> None:
    times = {path: path.stat().st_mtime_ns for path in digits.rglob("*")}
    generate(digits, OPTIONS, quiet)
    assert {path: path.stat().st_mtime_ns for path in digits.rglob("*")} == times


def test_after_an_interruption_the_same_seed_gives_the_same_bytes(digits: Path, tmp_path: Path) -> None:
    partial = tmp_path / "wav" / sorted((digits / "wav").iterdir())[3].name
    partial.parent.mkdir()
    partial.write_bytes(b"half a file")
    generate(tmp_path, OPTIONS, quiet)
    assert _digest(tmp_path) == _digest(digits)


def test_another_seed_plans_other_speech() -> None:
    first, second = (plan_recordings(DigitsOptions(num_train=50, seed=seed)) for seed in (0, 1))
    assert sum(a.text == b.text for a, b in zip(first, second, strict=True)) < 20
    assert first == plan_recordings(DigitsOptions(num_train=50))


def test_no_voice_is_in_two_sets_and_every_voice_is_used() -> None:
    plan = plan_recordings(DigitsOptions())
    heard = {name: {item.voice.timbre for item in plan if item.set == name} for name in TIMBRES}
    assert heard == {name: set(timbres) for name, timbres in TIMBRES.items()}
    assert sum(map(len, heard.values())) == len(set().union(*heard.values()))


def test_impossible_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="num_dev"):
        generate(tmp_path, {"num_dev": 0}, quiet)
    with pytest.raises(UserError, match="max_digits: must be at least 1 and at most 100, got 1000000000"):
        generate(tmp_path, {"max_digits": 10**9}, quiet)
    with pytest.raises(UserError, match=r"data\.options\.number"):
        generate(tmp_path, {"number": 3}, quiet)


def test_without_espeak_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(UserError, match=r"pip install slimasr\[demo\]"):
        Espeak()


def test_the_echo_falls_by_sixty_decibels_in_its_time_and_has_its_share_of_energy() -> None:
    seconds, ratio = 0.3, 6.0
    rooms = [impulse_response(seconds, ratio, np.random.default_rng(seed)) for seed in range(200)]
    energy = np.mean(np.square(rooms), axis=0)
    assert energy[0] == 1.0
    assert 10 * np.log10(energy[0] / energy[1:].sum()) == pytest.approx(ratio, abs=1e-6)
    times = np.arange(1, len(energy)) / SAMPLING_RATE
    slope = np.polyfit(times, 10 * np.log10(energy[1:]), 1)[0]
    assert slope * seconds == pytest.approx(-60.0, abs=0.5)


def test_the_noise_has_its_ratio() -> None:
    item = plan_recordings(DigitsOptions(num_train=1, num_dev=1, num_test=1))[0]
    dry = replace(item, reverberation=0.0, lead=0.0, tail=0.0, snr=10.0, peak=1.0)
    tone = np.sin(2 * np.pi * 200 * np.arange(SAMPLING_RATE) / SAMPLING_RATE)
    samples = make_audio(tone, SAMPLING_RATE, dry).astype(np.float64)
    scale = samples @ tone / (tone @ tone)
    noise = samples - scale * tone
    measured = 10 * np.log10(np.sum(np.square(scale * tone)) / np.sum(np.square(noise)))
    assert measured == pytest.approx(10.0, abs=0.3)
