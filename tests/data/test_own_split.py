"""Splitting dev and test sets off from listed utterances."""

import json
import re
from pathlib import Path

import pytest

from slimasr.data.corpora.base import ListedUtterance
from slimasr.data.own.split import parse_shares, split
from slimasr.errors import UserError

SHARES = {"dev": 0.1, "test": 0.2}


def utterance(number: int, speaker: str = "") -> ListedUtterance:
    return ListedUtterance(f"u{number}", Path(f"u{number}.wav"), "HELLO", speaker)


def of_speakers(num_speakers: int, num_each: int) -> list[ListedUtterance]:
    return [utterance(i, f"s{i % num_speakers}") for i in range(num_speakers * num_each)]


def places(result) -> dict[str, str]:
    return {item.id: name for name, items in result.sets.items() for item in items}


def test_no_speaker_is_in_two_sets():
    result = split({"train": of_speakers(12, 20)}, SHARES, seed=0)
    assert result.by == "speaker"
    voices = {name: {item.speaker for item in items} for name, items in result.sets.items()}
    assert all(voices.values())
    assert sum(map(len, voices.values())) == len(set.union(*voices.values())) == 12
    assert {name: size.speakers for name, size in result.sizes.items()} == {n: len(v) for n, v in voices.items()}


@pytest.mark.parametrize(
    ("utterances", "reason"),
    [
        (of_speakers(9, 20), "9 known speakers"),
        ([utterance(i) for i in range(100)], "no known speakers"),
        # Kaldi's convention for unknown speakers.
        ([utterance(i, f"u{i}") for i in range(100)], "no known speakers"),
        ([*of_speakers(12, 5), utterance(100)], "1 of 61"),
    ],
)
def test_by_utterance_without_enough_speakers_and_with_a_warning(utterances, reason):
    result = split({"train": utterances}, SHARES, seed=0)
    assert result.by == "utterance"
    assert reason in result.reason
    assert any("known voices" in note for note in result.notes)
    assert sorted(places(result)) == sorted(item.id for item in utterances)


def test_shares_are_met_and_follow_the_seed():
    utterances = [utterance(i) for i in range(5000)]
    first, again, other = (split({"train": utterances}, SHARES, seed) for seed in (0, 0, 1))
    assert first == again
    assert places(first) != places(other)
    for result in (first, other):
        # Six standard deviations of a binomial distribution.
        for name, share in SHARES.items():
            assert abs(len(result.sets[name]) - 5000 * share) < 6 * (5000 * share * (1 - share)) ** 0.5


@pytest.mark.parametrize("speakers", [0, 30])
def test_added_utterances_move_no_earlier_one(speakers):
    def listed(count):
        return [utterance(i, f"s{i % speakers}" if speakers else "") for i in range(count)]

    few, many = (places(split({"train": listed(count)}, SHARES, seed=0)) for count in (300, 900))
    assert few.items() <= many.items()
    # The order of the list has no influence either.
    assert places(split({"train": listed(300)[::-1]}, SHARES, seed=0)) == few


def test_every_set_of_a_small_corpus_has_an_utterance():
    for count in range(3, 9):
        sizes = split({"train": [utterance(i) for i in range(count)]}, {"dev": 0.05, "test": 0.05}, seed=0).sizes
        assert min(size.utterances for size in sizes.values()) >= 1
    with pytest.raises(UserError, match="only 2 utterances"):
        split({"train": [utterance(0), utterance(1)]}, SHARES, seed=0)


def test_speakers_of_several_training_sets_are_drawn_once():
    utterances = of_speakers(12, 20)
    result = split({"train-a": utterances[::2], "train-b": utterances[1::2]}, {"dev": 0.3}, seed=3)
    assert re.fullmatch(r"split by speaker \(12 known speakers; 0.3 for dev; seed 3\): train-a .*", result.lines()[0])
    # Speakers with even numbers are in one set, the others in the other one; all were counted.
    assert result.by == "speaker"
    assert set(result.sets) == {"train-a", "train-b", "dev"}
    assert {item.speaker for item in result.sets["train-a"]} <= {item.speaker for item in utterances[::2]}


def test_a_set_much_larger_than_its_share_is_noted():
    # One speaker has nearly everything; with some seed, it is drawn for dev.
    utterances = [*of_speakers(12, 2), *(utterance(1000 + i, "s0") for i in range(300))]
    drawn = [split({"train": utterances}, {"dev": 0.1}, seed) for seed in range(40)]
    for result in drawn:
        noted = any("more than its share" in note for note in result.notes)
        assert noted == ("s0" in {item.speaker for item in result.sets["dev"]})
    assert any("more than its share" in note for result in drawn for note in result.notes)


def test_facts_are_json():
    facts = split({"train": of_speakers(12, 5)}, SHARES, seed=4).facts()
    assert json.loads(json.dumps(facts))["sizes"]["train"]["utterances"] > 0


@pytest.mark.parametrize("text", ["0.05,0.1", "0.05 0.1", " 0.05, 0.1 "])
def test_shares_from_text(text):
    assert parse_shares(text) == (0.05, 0.1)


@pytest.mark.parametrize("text", ["", "0.1", "0.1 0.1 0.1", "a b", "0 0.1", "0.5 0.5", "-1 0.1", "nan 0.1"])
def test_impossible_shares(text):
    with pytest.raises(UserError, match="data.options.split"):
        parse_shares(text)
