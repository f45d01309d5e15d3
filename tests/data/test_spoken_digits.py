"""Recorded digits in English and Arabic: sets, words, strings of recordings, stages."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy.signal import resample

from slimasr.data.corpora import CORPORA, ListedUtterance, find_corpus
from slimasr.data.corpora.spoken_digits import SETS
from slimasr.data.files import DataFolder, read_cuts
from slimasr.data.manifests.stage import prepare
from slimasr.data.synthesis.digit_languages import DIGIT_LANGUAGES
from slimasr.errors import UserError
from tests.data.corpus import config, quiet, run_stages

SPOKEN = CORPORA["spoken_digits"]
Listed = dict[str, list[ListedUtterance]]


@pytest.fixture
def small(corpus: Callable[[str], Path], tmp_path: Path) -> Path:
    """A few recordings of two speakers for each language and set, as links to the real ones."""
    return _small(tmp_path / "spoken", corpus("fsdd"), corpus("arabic_digits"))


def _small(target: Path, english: Path, arabic: Path) -> Path:
    recordings = target / "fsdd" / "recordings"
    recordings.mkdir(parents=True)
    for path in (english / "recordings").glob("[0-4]_[jt]*_*.wav"):
        if int(path.stem.rsplit("_", 1)[1]) in (3, 4, 5, 6, 10, 11):
            (recordings / path.name).symlink_to(path)
    folder = target / arabic.name
    folder.mkdir()
    (folder / "dataset").symlink_to(arabic / "dataset")
    for name in ("train", "val", "test"):
        rows = (arabic / f"{name}.csv").read_text().splitlines()
        speakers = sorted({Path(row).stem.split("_")[0] for row in rows[1:]})[:2]
        own = [row for row in rows[1:] if Path(row).stem.split("_")[0] in speakers]
        # Two recordings of each digit, or the only one.
        kept = [row for row in own if arabic.name != "arabic_digits" or Path(row).stem.endswith(("_01", "_02"))]
        (folder / f"{name}.csv").write_text("\n".join([rows[0], *kept]) + "\n")
    return target


def _strings(folder: Path, own: Path, **options: Any) -> tuple[Path, Listed]:
    made = find_corpus(SPOKEN, folder, own, SETS, options, quiet)
    return made, SPOKEN.list_utterances(made, SETS, options)


def test_real_recordings_keep_the_splits_of_their_corpora(corpora: Path, corpus: Callable[[str], Path]) -> None:
    arabic = corpus("arabic_digits")
    found = SPOKEN.list_utterances(corpus("fsdd").parent, SETS, {})
    assert {name: len(items) for name, items in found.items()} == {
        **{"train-en": 2400, "dev-en": 300, "test-en": 300, "train-ar": 1800, "dev-ar": 600, "test-ar": 600}
    }
    for part, name in (("train", "train"), ("dev", "val"), ("test", "test")):
        with open(arabic / f"{name}.csv") as file:
            rows = {str(arabic / row["file"]): row["class"] for row in csv.DictReader(file)}
        words = dict(zip(DIGIT_LANGUAGES["en"].words, DIGIT_LANGUAGES["ar"].words, strict=True))
        assert {str(item.audio): item.text for item in found[f"{part}-ar"]} == {
            audio: words[word] for audio, word in rows.items()
        }
    speakers = [{item.speaker for item in found[f"{part}-ar"]} for part in ("train", "dev", "test")]
    assert list(map(len, speakers)) == [18, 6, 6] and len(set().union(*speakers)) == 30


def test_arabic_words_are_those_of_the_list_that_comes_with_them(corpus: Callable[[str], Path]) -> None:
    lines = (corpus("arabic_speech_commands_mini") / "keywords.tsv").read_text(encoding="utf-8").splitlines()
    listed = dict(line.split("\t") for line in lines[1:])
    assert [listed[word] for word in DIGIT_LANGUAGES["en"].words] == list(DIGIT_LANGUAGES["ar"].words)


def test_digits_of_the_smaller_arabic_corpus_stand_in(corpus: Callable[[str], Path], tmp_path: Path) -> None:
    folder = _small(tmp_path / "spoken", corpus("fsdd"), corpus("arabic_speech_commands_mini"))
    found = SPOKEN.list_utterances(folder, SETS, {})
    assert [len(found[f"{part}-ar"]) for part in ("train", "dev", "test")] == [20, 20, 20], "ten digits, two speakers"
    # Single words have the rate of their files; strings have 8 kHz.
    _, strings = _strings(folder, tmp_path / "own", strings=10)
    (first, *_) = strings["test-ar"]
    samples, rate = soundfile.read(first.audio)
    texts = {item.text: item.audio for item in found["test-ar"] if item.speaker == first.speaker}
    parts = [soundfile.read(texts[word])[0] for word in first.text.split()]
    assert rate == 8000 and len(samples) == sum(len(part) // 2 for part in parts)
    # Another way to change the rate, by the Fourier transform.
    joined = np.concatenate([resample(part, len(part) // 2) for part in parts])
    assert np.corrcoef(samples, joined)[0, 1] > 0.99


def test_strings_hold_every_recording_of_a_speaker_once(small: Path, tmp_path: Path) -> None:
    words = SPOKEN.list_utterances(small, SETS, {})
    made, strings = _strings(small, tmp_path / "own", strings=3, rounds=2)
    assert made.is_relative_to(tmp_path / "own") and not (small / "wav").exists()
    for name in SETS:
        times = 2 if name.startswith("train") else 1
        spoken = Counter((item.speaker, item.text) for item in words[name])
        joined = Counter((item.speaker, word) for item in strings[name] for word in item.text.split())
        assert joined == Counter({key: times * count for key, count in spoken.items()})
        lengths = Counter(len(item.text.split()) for item in strings[name])
        assert max(lengths) == 3 and lengths[3] > lengths[1] + lengths[2]
        assert {item.language for item in strings[name]} == {name[-2:]}
        seconds = [sum(soundfile.info(item.audio).duration for item in items) for items in (words[name], strings[name])]
        assert seconds[1] == pytest.approx(times * seconds[0], abs=1e-6)
    assert len({item.text for item in strings["train-en"]}) > 10


def test_a_string_is_its_recordings_one_after_the_other(small: Path, tmp_path: Path) -> None:
    words = SPOKEN.list_utterances(small, SETS, {})["dev-ar"]
    _, strings = _strings(small, tmp_path / "own", strings=2)
    item = strings["dev-ar"][0]
    samples, rate = soundfile.read(item.audio, dtype="int16")
    first, second = item.text.split()
    own = [
        [
            soundfile.read(word.audio, dtype="int16")[0]
            for word in words
            if (word.speaker, word.text) == (item.speaker, text)
        ]
        for text in (first, second)
    ]
    assert rate == 8000
    assert any(np.array_equal(samples, np.concatenate([a, b])) for a in own[0] for b in own[1])


def test_strings_are_made_once_and_again_for_other_options(small: Path, tmp_path: Path) -> None:
    def times(made: Path) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()}

    made, first = _strings(small, tmp_path / "own", strings=5)
    before = times(made)
    assert _strings(small, tmp_path / "own", strings=5) == (made, first)
    assert times(made) == before
    _, other = _strings(small, tmp_path / "own", strings=5, seed=1)
    assert [item.text for item in other["train-en"]] != [item.text for item in first["train-en"]]


@pytest.mark.parametrize("options", [{}, {"strings": 5}])
def test_real_speech_goes_through_the_stages(small: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    section = {"train": ["train-en", "train-ar"], "dev": "dev-en+dev-ar", "test": ["test-en", "test-ar"]}
    recipe = config(corpus="spoken_digits", sampling_rate=8000, options=options, **section)
    run_stages(recipe, tmp_path / "data", small)
    for language in ("en", "ar"):
        cuts = list(read_cuts(DataFolder(tmp_path / "data").cuts(f"test-{language}"), "stage 2"))
        assert {cut.supervisions[0].language for cut in cuts} == {language}
        assert all(abs(cut.num_frames - 100 * cut.duration) <= 1 for cut in cuts)


def test_what_is_missing_or_damaged_is_named(small: Path, tmp_path: Path) -> None:
    def fails(message: str, sets: Sequence[str] = SETS, **options: Any) -> None:
        recipe = config(
            corpus="spoken_digits", sampling_rate=8000, options=options, train=[sets[0]], dev=sets[1], test=[]
        )
        with pytest.raises(UserError, match=message):
            prepare(recipe.data, tmp_path / "data", small, False, quiet)

    fails(r"corpus spoken_digits has no set 'train-fr'; it has dev-ar, dev-en", ("train-fr", "dev-fr"))
    listing = small / "arabic_digits" / "val.csv"
    rows = listing.read_text()
    listing.write_text(rows + "dataset/one/00000002.flac,one\n")
    fails(r"val\.csv:\d+: expected 'dataset/WORD/SPEAKER_NO_ROUND", ("train-ar", "dev-ar"))
    listing.write_text(rows.replace("file,class", "path,word"))
    fails(r"val\.csv:1: expected the names of the columns, 'file,class'", ("train-ar", "dev-ar"))
    (small / "arabic_digits").rename(small / "elsewhere")
    fails(r"arabic_digits is missing, from which corpus spoken_digits reads language ar", ("train-ar", "dev-ar"))
    fails(r"set train-ar of corpus spoken_digits has no utterances", ("train-ar", "dev-ar"), strings=2)
    broken = next((small / "fsdd" / "recordings").iterdir())
    broken.unlink()
    broken.write_bytes(b"RIFF")
    fails(re.escape(str(broken)), ("train-en", "dev-en"), strings=2)
