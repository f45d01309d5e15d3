"""Corpora in their native layouts: counts, splits, transcripts; where they are found."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from lhotse.recipes import prepare_librispeech

from slimasr.config.corpora import DigitsOptions
from slimasr.config.data import DataConfig
from slimasr.data.corpora import CORPORA, find_corpus
from slimasr.data.corpora.an4 import dev_speakers
from slimasr.data.corpora.base import ListedUtterance, parse_options
from slimasr.errors import UserError
from tests.data.corpus import SPEAKERS, make_an4, quiet

SETS = ("train", "dev", "test")
Find = Callable[[str], Path]


def _list(name: str, folder: Path, sets: tuple[str, ...] = SETS, **options: int) -> dict[str, list[ListedUtterance]]:
    return CORPORA[name].list_utterances(folder, sets, options)


def _speakers(utterances: list[ListedUtterance]) -> set[str]:
    return {utterance.speaker for utterance in utterances}


def test_real_an4_is_complete_and_no_speaker_is_in_two_sets(corpus: Find) -> None:
    sets = _list("an4", corpus("an4"))
    assert len(sets["train"]) + len(sets["dev"]) == 948
    assert len(sets["test"]) == 130
    assert sum(len(utterance.text.split()) for utterance in sets["test"]) == 773
    speakers = [_speakers(utterances) for utterances in sets.values()]
    assert [len(found) for found in speakers] == [66, 8, 10]
    assert len(set().union(*speakers)) == 84
    assert all(utterance.audio.is_file() for found in sets.values() for utterance in found)
    texts = {utterance.id: utterance.text for found in sets.values() for utterance in found}
    assert texts["an251-fash-b"] == "YES"
    assert texts["an406-fcaw-b"] == "RUBOUT G M E F THREE NINE"
    assert not any("<" in text or "(" in text for text in texts.values())


def test_real_an4_dev_holds_women_and_men_about_a_tenth(corpus: Find) -> None:
    sets = _list("an4", corpus("an4"))
    chosen = _speakers(sets["dev"])
    assert {speaker[0] for speaker in chosen} == {"f", "m"}
    assert 0.09 < len(sets["dev"]) / 948 < 0.13


def test_an4_dev_speakers_follow_from_the_names_alone() -> None:
    names = {f"m{letter}" for letter in "abcdefghijklmnop"}
    assert dev_speakers(names) == {"me", "mn"}
    assert dev_speakers(names | {"me2"}) == {"me", "me2", "mn"}, "one person under two names"


@pytest.mark.parametrize("suffix", [".sph", ".wav", ".flac"])
def test_an4_audio_may_have_any_of_its_formats(tmp_path: Path, suffix: str) -> None:
    sets = _list("an4", make_an4(tmp_path / "an4", utterances_per_speaker=1, suffix=suffix))
    assert [len(sets[name]) for name in SETS] == [9, 1, 1]
    assert all(utterance.audio.suffix == suffix for found in sets.values() for utterance in found)
    assert _speakers(sets["dev"]) == {SPEAKERS[4]}


def test_an4_without_a_listing_names_it(an4: Path) -> None:
    (an4 / "etc" / "an4_test.transcription").unlink()
    with pytest.raises(UserError, match=r"an4_test\.transcription"):
        _list("an4", an4)


def test_real_fsdd_follows_its_index_rule(corpus: Find) -> None:
    sets = _list("fsdd", corpus("fsdd"))
    assert [len(sets[name]) for name in SETS] == [2400, 300, 300]
    assert all(int(utterance.id.rsplit("_", 1)[1]) < 5 for utterance in sets["test"])
    assert all(len(_speakers(found)) == 6 for found in sets.values())
    assert {u.text for u in sets["test"] if u.id.startswith("7_")} == {"seven"}


def test_fsdd_names_a_foreign_file(tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / "seven.wav").touch()
    with pytest.raises(UserError, match=r"seven\.wav"):
        _list("fsdd", tmp_path)


def test_real_librispeech_lists_what_lhotse_lists(corpus: Find) -> None:
    folder = corpus("librispeech_mini") / "LibriSpeech"
    parts = ("train-clean-5", "dev-clean", "test-clean")
    ours = _list("librispeech", folder, parts)
    theirs = prepare_librispeech(folder, dataset_parts=parts)
    for part in parts:
        expected = {
            (
                segment.id,
                segment.text,
                segment.speaker,
                theirs[part]["recordings"][segment.id].sources[0].source,
            )
            for segment in theirs[part]["supervisions"]
        }
        assert {(u.id, u.text, u.speaker, str(u.audio)) for u in ours[part]} == expected
    assert [len(ours[part]) for part in parts] == [271, 3, 5]


def test_librispeech_joins_parts(corpus: Find) -> None:
    folder, joined = corpus("librispeech_mini") / "LibriSpeech", "dev-clean+test-clean"
    found = _list("librispeech", folder, (joined, "dev-clean", "test-clean"))
    assert found[joined] == found["dev-clean"] + found["test-clean"]
    with pytest.raises(UserError, match="'dev-cleaner'"):
        _list("librispeech", folder, ("dev-clean+dev-cleaner",))
    addresses = CORPORA["librispeech"].addresses
    assert len(addresses((joined, "dev-clean"), {})) == 2
    assert addresses((joined, "dev-clean"), {}) == addresses(("dev-clean", "test-clean"), {})


def test_librispeech_names_an_unknown_and_an_absent_part(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train-clean-200"):
        _list("librispeech", tmp_path, ("train-clean-200",))
    with pytest.raises(UserError, match=r"train-clean-100.*missing"):
        _list("librispeech", tmp_path, ("train-clean-100",))


def test_unknown_sets_and_options_are_named(an4: Path) -> None:
    with pytest.raises(UserError, match=r"'eval'.*dev, test, train"):
        _list("an4", an4, ("eval",))
    with pytest.raises(UserError, match=r"data\.options\.speakers: unknown"):
        _list("an4", an4, speakers=3)
    with pytest.raises(UserError, match=r"data\.options\.shortest: needs int"):
        CORPORA["librispeech"].list_utterances(an4, ("dev-clean",), {"shortest": "ten"})
    with pytest.raises(UserError, match=r"data\.options\.shortest: must be at least 0, got -1"):
        CORPORA["librispeech"].list_utterances(an4, ("dev-clean",), {"shortest": -1})


def test_a_corpus_is_found_where_it_may_lie(an4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(given: Path | None, own: Path) -> Path:
        return find_corpus(CORPORA["an4"], given, own, SETS, {}, quiet)

    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.delenv("SLIMASR_CORPORA", raising=False)
    assert find(an4, empty) == find(an4.parent, empty) == an4.resolve()
    with pytest.raises(UserError, match="--download"):
        find(None, empty)
    with pytest.raises(UserError, match="empty"):
        find(empty, tmp_path)
    monkeypatch.setenv("SLIMASR_CORPORA", str(an4.parent))
    assert find(None, empty) == an4.resolve()
    monkeypatch.delenv("SLIMASR_CORPORA")
    (empty / "an4").mkdir()
    an4.rename(empty / "an4" / "an4")
    assert find(None, empty) == (empty / "an4" / "an4").resolve(), "downloaded before"


def test_librispeech_keeps_the_shortest_transcripts(corpus: Find) -> None:
    folder, part = corpus("librispeech_mini") / "LibriSpeech", "train-clean-5"
    everything = _list("librispeech", folder, (part,))[part]
    kept = _list("librispeech", folder, (part,), shortest=10)[part]
    assert len(kept) == 10 and [item.id for item in kept] == sorted(item.id for item in kept)
    left_out = {item.id for item in everything} - {item.id for item in kept}
    assert max(len(item.text) for item in kept) <= min(len(i.text) for i in everything if i.id in left_out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_trian": 3}, "data.options.num_trian: unknown for corpus digits; known: num_train, num_dev"),
        ({"num_train": 0}, "data.options.num_train: must be at least 1 and at most 1000000, got 0"),
        ({"max_digits": 101}, "data.options.max_digits: must be at least 1 and at most 100, got 101"),
        ({"num_dev": "5"}, "data.options.num_dev: needs int, not '5'"),
        ({"num_dev": 5.0}, "data.options.num_dev: needs int, not 5.0"),
        ({"seed": True}, "data.options.seed: needs int, not True"),
        ({"min_digits": 8}, "data.options.min_digits: must not exceed max_digits 7, got 8"),
        ({"max_snr": 10}, "data.options.min_snr: must not exceed max_snr 10, got 15"),
        ({"min_snr": -101}, "data.options.min_snr: must be at least -100 and at most 100, got -101"),
    ],
)
def test_options_of_a_corpus_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        parse_options(DigitsOptions, options, "digits")


def test_options_of_a_corpus_are_read() -> None:
    parsed = parse_options(DigitsOptions, {"num_train": 10**6, "seed": -1}, "digits")
    assert parsed.model_dump() == {
        "num_train": 10**6,
        "num_dev": 150,
        "num_test": 200,
        "languages": "en",
        "set_sizes": "",
        "min_digits": 1,
        "max_digits": 7,
        "min_snr": 15.0,
        "max_snr": 35.0,
        "seed": -1,
    }


def test_every_corpus_that_a_configuration_may_name_is_known() -> None:
    assert set(CORPORA) == set(get_args(DataConfig.model_fields["corpus"].annotation))
    assert all(CORPORA[name].name == name for name in CORPORA)
    assert "timit" not in CORPORA
