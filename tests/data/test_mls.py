"""Multilingual LibriSpeech in its native layout, made of recorded speech: sets, variants, stages, faults."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lhotse.recipes import prepare_mls

from slimasr.data.audio.recordings import read_recording
from slimasr.data.corpora import CORPORA, ListedUtterance
from slimasr.data.files import DataFolder, read_cuts
from slimasr.errors import UserError
from tests.data.corpus import config, run_stages
from tests.data.mls import COUNTS, Recorded, make_mls

MLS = CORPORA["mls"]
NUM_RECORDED = 2 * sum(COUNTS.values())


@pytest.fixture(scope="module")
def recorded(corpus: Callable[[str], Path]) -> list[Recorded]:
    """The shortest utterances of recorded speech, each with another text."""
    folder, part = corpus("librispeech_mini") / "LibriSpeech", "train-clean-5"
    (found,) = CORPORA["librispeech"].list_utterances(folder, [part], {"shortest": NUM_RECORDED}).values()
    return [(item.audio, item.text) for item in found]


@pytest.fixture
def made(recorded: list[Recorded], tmp_path: Path) -> Path:
    return make_mls(tmp_path / "mls", recorded, ("fr", "nl"))


def _list(folder: Path, *sets: str, **options: Any) -> dict[str, list[ListedUtterance]]:
    return MLS.list_utterances(folder, sets, options)


def test_the_sets_are_those_that_lhotse_lists(made: Path) -> None:
    theirs = prepare_mls(made, opus=False)
    for language, name in (("fr", "french"), ("nl", "dutch")):
        for part in ("train", "dev", "test"):
            (ours,) = _list(made, f"{part}-{language}").values()
            listed = theirs[name][part]
            expected = {
                (item.id, item.text, listed["recordings"][item.recording_id].sources[0].source)
                for item in listed["supervisions"]
            }
            assert {(item.id, item.text, str(item.audio)) for item in ours} == expected
            assert len(ours) == COUNTS[part]
            assert {item.language for item in ours} == {language}
            assert all(item.speaker == item.audio.parent.parent.name for item in ours)


def test_subsets_for_limited_supervision(made: Path) -> None:
    found = _list(made, "train-fr", "train9h-fr", "train1h-fr", "train9h-fr+train1h-fr", "train1h-fr+train1h-nl")
    ids = {name: [item.id for item in utterances] for name, utterances in found.items()}
    assert ids["train9h-fr"] == ids["train-fr"][:-2]
    assert ids["train1h-fr"] == ids["train-fr"][-2:]
    assert ids["train9h-fr+train1h-fr"] == ids["train-fr"]
    assert [item.language for item in found["train1h-fr+train1h-nl"]] == ["fr", "fr", "nl", "nl"]


def test_no_folder_of_audio_is_listed(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []
    for name in ("scandir", "listdir"):
        # `original` is bound now, as the loop goes on.
        def record(path: Any = ".", original: Callable[[Any], Any] = getattr(os, name)) -> Any:
            listed.append(Path(os.fsdecode(path)))
            return original(path)

        monkeypatch.setattr(os, name, record)
    assert len(_list(made, "train-fr", "train1h-fr")["train-fr"]) == COUNTS["train"]
    assert MLS.locate(made) == made
    assert listed and not any("audio" in path.parts for path in listed)


def test_the_option_decides_between_the_variants(made: Path, recorded: list[Recorded]) -> None:
    with pytest.raises(UserError, match=r"mls_french_opus is missing, but mls_french is there: set .*opus to false"):
        _list(made, "dev-fr", opus=True)
    make_mls(made, recorded, ("fr",), opus=True)
    (flac,), (opus,) = _list(made, "dev-fr")["dev-fr"], _list(made, "dev-fr", opus=True)["dev-fr"]
    assert (flac.audio.suffix, opus.audio.suffix) == (".flac", ".opus")
    assert (flac.id, flac.text) == (opus.id, opus.text)
    one, other = (read_recording(item.audio, item.id) for item in (flac, opus))
    assert (one.sampling_rate, one.num_samples) == (other.sampling_rate, other.num_samples)


def test_real_speech_goes_through_the_stages(made: Path, tmp_path: Path) -> None:
    section = {"train": ["train9h-fr", "train-nl"], "dev": "dev-fr+dev-nl", "test": ["test-fr"]}
    run_stages(config(corpus="mls", **section), tmp_path / "data", made)
    dev = read_cuts(DataFolder(tmp_path / "data").cuts("dev-fr+dev-nl"), "stage 2")
    assert [cut.supervisions[0].language for cut in dev] == ["fr", "nl"]


def test_compressed_speech_goes_through_the_stages(recorded: list[Recorded], tmp_path: Path) -> None:
    folder = make_mls(tmp_path / "mls", recorded, ("pl",), opus=True)
    section = {"train": ["train-pl"], "dev": "dev-pl", "test": [], "options": {"opus": True}}
    run_stages(config(corpus="mls", **section), tmp_path / "data", folder)
    (dev,) = read_cuts(DataFolder(tmp_path / "data").cuts("dev-pl"), "stage 2")
    # Features have 100 frames a second.
    assert abs(dev.num_frames - 100 * dev.duration) <= 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "train",
            r"corpus mls has no set 'train'; .*train, dev, test, train9h, train1h, each with a language \(de, en",
        ),
        ("train-ru", r"corpus mls has no set 'train-ru'"),
        ("dev9h-fr", r"corpus mls has no set 'dev9h-fr'"),
        ("dev-it", r"mls_italian/dev/transcripts\.txt is missing: the corpus has no part dev of italian"),
    ],
)
def test_sets_that_are_not_there(made: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _list(made, name)


def test_faults_of_lists_are_named(made: Path) -> None:
    train = made / "mls_french" / "train"
    limited = train / "limited_supervision" / "1hr" / "1" / "handles.txt"
    limited.write_text("1_2_3\n")
    with pytest.raises(UserError, match=r"1/handles\.txt:1: .*train/transcripts\.txt has no utterance 1_2_3"):
        _list(made, "train1h-fr")
    (train / "limited_supervision" / "9hr" / "handles.txt").unlink()
    with pytest.raises(UserError, match=r"9hr/handles\.txt is missing: the corpus has no set train9h"):
        _list(made, "train9h-fr")
    (train / "transcripts.txt").write_text("bonjour à tous\n")
    with pytest.raises(UserError, match=r"transcripts\.txt:1: expected 'SPEAKER_BOOK_NUMBER'"):
        _list(made, "train-fr")


def test_languages_are_downloaded_by_address() -> None:
    base = "https://dl.fbaipublicfiles.com/mls"
    sets = ("train9h-fr+train1h-fr", "dev-fr+dev-nl", "test-nl")
    assert MLS.addresses(sets, {}) == [f"{base}/mls_french.tar.gz", f"{base}/mls_dutch.tar.gz"]
    assert MLS.addresses(("dev-pl",), {"opus": True}) == [f"{base}/mls_polish_opus.tar.gz"]


def test_a_language_that_is_missing_is_downloaded(made: Path) -> None:
    assert MLS.is_complete(made, ("dev-fr+dev-nl", "train1h-fr"), {})
    assert not MLS.is_complete(made, ("dev-fr+dev-it",), {})
    assert not MLS.is_complete(made, ("dev-fr",), {"opus": True})
