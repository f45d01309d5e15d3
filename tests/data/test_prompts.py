"""Recorded telephone prompts: their split, their words, each language through the stages."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from slimasr.data.corpora import CORPORA, ListedUtterance
from slimasr.data.corpora.prompts import LANGUAGES, normalise
from slimasr.data.files import DataFolder, read_cuts
from slimasr.errors import UserError
from tests.data.corpus import config, run_stages

PARTS = ("train", "dev", "test")
PROMPTS = CORPORA["prompts"]


@pytest.fixture
def prompts(corpus: Callable[[str], Path]) -> Path:
    return corpus("asterisk_prompts")


def _list(folder: Path, *sets: str) -> dict[str, list[ListedUtterance]]:
    return PROMPTS.list_utterances(folder, sets, {})


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_tenth_prompt_is_in_test_and_the_ones_after_them_in_dev(prompts: Path, language: str) -> None:
    with open(prompts / language / "prompts.tsv", encoding="utf-8") as file:
        files = [row["file"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    found = _list(prompts, *(f"{part}-{language}" for part in PARTS))
    listed = {
        name.split("-")[0]: [item.audio.relative_to(prompts / language) for item in found[name]] for name in found
    }
    by_rule = {"test": files[::10], "dev": files[1::10]}
    for part, expected in by_rule.items():
        assert [str(path) for path in listed[part]] == [name for name in expected if Path(name) in set(listed[part])]
    # At most one prompt in a hundred is left out.
    assert len(files) - max(1, len(files) // 100) <= sum(map(len, listed.values())) <= len(files)
    assert all(item.audio.is_file() and item.language == language for name in found for item in found[name])


def test_transcripts_are_words_that_are_spoken(prompts: Path) -> None:
    found = _list(prompts, "+".join(f"{part}-{language}" for language in LANGUAGES for part in PARTS))
    (utterances,) = found.values()
    texts = {item.id: item.text for item in utterances}
    assert texts["en-call-fwd-on-busy"] == "call forward on busy"
    assert texts["it-dir-welcome"] == "benvenuto nell'elenco"
    assert texts["fr-digits_90"] == "quatre vingt dix"
    assert texts["ru-demo-echodone"] == "эхо тест завершён"
    assert "en-dictate_both_help" not in texts and "it-vm-tempremoved" not in texts
    letters = {letter for text in texts.values() for letter in text} - {" ", "'"}
    assert all(letter.isalpha() and letter == letter.lower() for letter in letters)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Un-indentified,  or: NOT?!", "un indentified or not"),
        ("Cafe\u0301…", "caf\u00e9"),
        ("press # to exit", None),
        ("a 1", None),
        ("eliminato vm-then-pound: poi", None),
        (" … ", None),
    ],
)
def test_words_of_a_prompt(text: str, words: str | None) -> None:
    assert normalise(text) == words


@pytest.mark.parametrize("language", LANGUAGES)
def test_real_speech_goes_through_the_stages(prompts: Path, tmp_path: Path, language: str) -> None:
    # A corpus of the first prompts, so that the stages are quick.
    small = tmp_path / "asterisk_prompts"
    (small / language).mkdir(parents=True)
    lines = (prompts / language / "prompts.tsv").read_text(encoding="utf-8").splitlines()[:9]
    (small / language / "prompts.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (small / language / "audio").symlink_to(prompts / language / "audio")
    section = {"train": [f"train-{language}"], "dev": f"dev-{language}", "test": [f"test-{language}"]}
    recipe = config(corpus="prompts", sampling_rate=8000, **section)
    tokenizer = run_stages(recipe, tmp_path / "data", small)
    (test,) = read_cuts(DataFolder(tmp_path / "data").cuts(f"test-{language}"), "stage 2")
    assert test.supervisions[0].language == language
    assert abs(test.num_frames - 100 * soundfile.info(test.recording.sources[0].source).duration) <= 1
    assert tokenizer.encode(test.supervisions[0].text)


def test_faults_are_named(tmp_path: Path) -> None:
    (tmp_path / "fr").mkdir()
    listing = tmp_path / "fr" / "prompts.tsv"
    for content, message in (
        ("audio/a.flac\tun\n", r"prompts\.tsv:1: expected the names of the columns"),
        ("file\ttext\naudio/a.flac un\n", r"prompts\.tsv:2: expected an audio file and its text"),
    ):
        listing.write_text(content)
        with pytest.raises(UserError, match=message):
            _list(tmp_path, "train-fr")
    with pytest.raises(UserError, match=r"it/prompts\.tsv is missing"):
        _list(tmp_path, "train-it")
    with pytest.raises(UserError, match=r"corpus prompts has no set 'train-de'; it has dev-en"):
        _list(tmp_path, "train-de")
