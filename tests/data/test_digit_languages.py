"""Synthetic digits in several languages: English stays what it was, voices differ between sets, sets have languages."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import soundfile

from slimasr.config.corpora import DigitsOptions
from slimasr.data.corpora import CORPORA, ListedUtterance
from slimasr.data.corpora.digits import SPOKEN, TIMBRES, generate, plan_recordings
from slimasr.data.corpora.made import RECEIPT
from slimasr.data.files import DataFolder, read_cuts
from slimasr.data.synthesis.digit_languages import DIGIT_LANGUAGES
from slimasr.data.synthesis.espeak import Espeak, Voice
from slimasr.errors import UserError
from tests.data.corpus import config, quiet, run_stages

ENGLISH: dict[str, Any] = {"num_train": 2, "num_dev": 1, "num_test": 1}
TWO: dict[str, Any] = {**ENGLISH, "languages": "fr en", "set_sizes": "train-fr=3 dev-en=1"}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("espeakng_loader", reason="the extra demo is not installed")
    target = tmp_path_factory.mktemp("digits")
    generate(target, TWO, quiet)
    return target


def _sets(folder: Path, options: dict[str, Any], *names: str) -> dict[str, list[ListedUtterance]]:
    return CORPORA["digits"].list_utterances(folder, names, options)


def test_the_plan_of_english_is_that_of_the_first_version() -> None:
    digest = hashlib.sha256()
    for item in plan_recordings(DigitsOptions()):
        room = item.reverberation, item.direct_ratio, item.lead, item.tail, item.peak, item.seed
        digest.update(repr((item.id, item.set, item.text, item.voice, item.pauses, item.snr, *room)).encode())
    assert digest.hexdigest() == "326072c53c81a2055f725814ec47a6e24e2dac592e5e67f63d17fbb8a70bd9e9"


def test_english_sounds_the_same_beside_other_languages(digits: Path, tmp_path: Path) -> None:
    generate(tmp_path, ENGLISH, quiet)
    # Corpora that were made before there were languages are complete.
    assert set(json.loads((tmp_path / RECEIPT).read_text())) == {"version", *ENGLISH, "max_digits", "seed"}
    alone = _sets(tmp_path, ENGLISH, "train", "train-en", "dev", "test")
    beside = _sets(digits, TWO, "train-en", "dev-en", "test-en")
    assert alone["train"] == alone["train-en"]
    for name in ("train", "dev", "test"):
        pairs = list(zip(alone[name], beside[f"{name}-en"], strict=True))
        assert pairs
        for a, b in pairs:
            assert (a.id, a.text, a.speaker, a.language) == (b.id, b.text, b.speaker, "en")
            assert a.audio.read_bytes() == b.audio.read_bytes()


def test_every_language_has_its_words_sizes_and_code(digits: Path) -> None:
    sizes = {"train-fr": 3, "dev-fr": 1, "test-fr": 1, "train-en": 2, "dev-en": 1, "test-en": 1}
    found = _sets(digits, TWO, *sizes)
    assert {name: len(utterances) for name, utterances in found.items()} == sizes
    for name, utterances in found.items():
        language = name.split("-")[1]
        for utterance in utterances:
            words = utterance.text.split()
            assert utterance.language == language
            assert set(words) <= set(DIGIT_LANGUAGES[language].words)
            # A spoken digit takes between a sixth of a second and a second.
            assert len(words) / 6 < soundfile.info(utterance.audio).duration < len(words) + 0.7
    assert len({utterance.id for utterances in found.values() for utterance in utterances}) == sum(sizes.values())


def test_every_accent_speaks_every_digit_as_a_word() -> None:
    pytest.importorskip("espeakng_loader", reason="the extra demo is not installed")
    with Espeak() as espeak:
        for language in SPOKEN:
            for accent in DIGIT_LANGUAGES[language].accents:
                voice = Voice(accent, "m1", 170, 50, 50)
                for word in DIGIT_LANGUAGES[language].words:
                    seconds = len(espeak.say(word, voice, 0)) / espeak.sampling_rate
                    # A word that is spelled letter by letter takes longer.
                    assert 0.1 < seconds < 1.0, (accent, word)


def test_voices_of_every_language_are_in_one_set_only() -> None:
    plan = plan_recordings(DigitsOptions(languages=" ".join(SPOKEN)))
    for language in SPOKEN:
        heard = {
            part: {item.voice.timbre for item in plan if item.set in (part, f"{part}-{language}")} for part in TIMBRES
        }
        assert heard == {part: set(timbres) for part, timbres in TIMBRES.items()}
        accents = {item.voice.accent for item in plan if item.language == language}
        assert accents == set(DIGIT_LANGUAGES[language].accents)


def test_ranges_of_digits_and_noise() -> None:
    plan = plan_recordings(DigitsOptions(languages="nl", min_digits=3, max_digits=5, min_snr=-5.0, max_snr=5.0))
    assert {len(item.text.split()) for item in plan} == {3, 4, 5}
    assert -5.0 < min(item.snr for item in plan) < -4.5 and 4.5 < max(item.snr for item in plan) < 5.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"languages": "en xx"}, r"languages: unknown language 'xx'; .* en, fr, it, nl, with spaces"),
        ({"languages": "en,fr"}, r"languages: unknown language 'en,fr'"),
        # Arabic digits are recorded, not synthesised.
        ({"languages": "ar"}, r"languages: unknown language 'ar'"),
        ({"languages": "fr en fr"}, r"languages: fr is named twice"),
        ({"languages": " "}, r"languages: names no language"),
        ({"set_sizes": "train-fr=3"}, r"set_sizes: there is no set 'train-fr'; the sets are train-en, dev-en, test-en"),
        ({"set_sizes": "train-en"}, r"set_sizes: 'train-en': needs SET=NUMBER"),
        ({"set_sizes": "train-en=0"}, r"set_sizes: 'train-en=0': needs SET=NUMBER, from 1 to 1000000"),
    ],
)
def test_impossible_languages_and_sizes(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"data\.options\.{message}"):
        generate(tmp_path / "digits", options, quiet)
    assert not (tmp_path / "digits").exists()


def test_a_set_of_another_language_is_named(digits: Path) -> None:
    with pytest.raises(UserError, match=r"no set 'train'; it has dev-en, dev-fr, test-en"):
        _sets(digits, TWO, "train")
    with pytest.raises(UserError, match=r"no set 'dev-ru'"):
        _sets(digits, TWO, "dev-fr+dev-ru")


def test_languages_go_through_the_stages(digits: Path, tmp_path: Path) -> None:
    section = {"train": ["train-fr", "train-en"], "dev": "dev-fr+dev-en", "test": [], "options": TWO}
    run_stages(config(corpus="digits", **section), tmp_path / "data", digits)
    dev = read_cuts(DataFolder(tmp_path / "data").cuts("dev-fr+dev-en"), "stage 2")
    assert [cut.supervisions[0].language for cut in dev] == ["fr", "en"]
