"""TED-LIUM 2: segments of talks, listed as lhotse lists them, cut as if every one were a file; broken lists."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse.audio.backend import set_current_audio_backend
from lhotse.recipes import prepare_tedlium2

from slimasr.data.audio.recordings import load_samples
from slimasr.data.corpora import CORPORA
from slimasr.data.corpora.tedlium2 import normalise
from slimasr.data.features.shards import make_extractor
from slimasr.data.features.stage import compute_features
from slimasr.data.files import DataFolder, read_bad, read_cuts
from slimasr.data.manifests.stage import prepare
from slimasr.data.memory.training_cuts import read_feature_cuts
from slimasr.errors import UserError
from tests.data.corpus import config, quiet
from tests.data.tedlium import Spoken, make_tedlium, spoken_utterances

SETS = ("train", "dev", "test")


@pytest.fixture
def spoken(corpus: Callable[[str], Path]) -> list[Spoken]:
    return spoken_utterances(corpus("librispeech_mini") / "LibriSpeech", 7)


@pytest.fixture
def talks(spoken: list[Spoken], tmp_path: Path) -> Path:
    sets = {"train": {"A": spoken[:2], "B": spoken[2:5]}, "dev": {"C": spoken[5:6]}, "test": {"D": spoken[6:]}}
    return make_tedlium(tmp_path / "TEDLIUM_release2", sets)


def spoil(talks: Path, old: str, new: str, talk: str = "train/stm/A") -> None:
    path = talks / f"{talk}.stm"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_segments_are_those_that_lhotse_lists(talks: Path) -> None:
    spoil(talks, "<o,f0,female> ", "<o,f0,female> it(2) 's {NOISE} <unk> ")
    with (talks / "dev" / "stm" / "C.stm").open("a") as file:
        file.write("C 1 inter_segment_gap 0 0.2 <o,,unknown> ignore_time_segment_in_scoring\n")
    ours = CORPORA["tedlium2"].list_utterances(talks, SETS, {})
    set_current_audio_backend("LibsndfileBackend")
    try:
        theirs = prepare_tedlium2(talks, normalize_text="none")
    finally:
        set_current_audio_backend("default")
    for name in SETS:
        expected = {(s.id, s.start, s.duration, s.speaker, s.recording_id) for s in theirs[name]["supervisions"]}
        assert {(u.id, u.start, u.duration, u.speaker, u.audio.stem) for u in ours[name]} == expected
        texts = {s.id: s.text for s in theirs[name]["supervisions"]}
        assert all(u.text == texts[u.id] for u in ours[name] if u.id != "A-0")
    assert [len(ours[name]) for name in SETS] == [5, 1, 1]
    assert ours["train"][0].text.startswith("it's ") and "(" not in ours["train"][0].text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("they(2) 're here(3)", "they're here"),
        ("{COUGH} so [NOISE] <sil> we <unk> do n't", "so we do n't"),
        ("' cause i know", "'cause i know"),
    ],
)
def test_marks_are_no_words(text: str, words: str) -> None:
    assert normalise(text) == words


def test_a_segment_is_what_a_file_of_its_own_would_be(talks: Path, tmp_path: Path) -> None:
    """Samples, stored features and identity of audio; the talk is read with libsndfile alone."""
    recipe = config(corpus="tedlium2", speeds=[1.0, 0.9])
    prepare(recipe.data, tmp_path / "data", talks, False, quiet)
    compute_features(recipe, tmp_path / "data", 1, quiet)
    folder = DataFolder(tmp_path / "data")
    cuts = list(read_feature_cuts(folder, "train"))
    slow = {cut.id: cut for cut in read_feature_cuts(folder, "train", 0.9)}
    assert [cut.id for cut in cuts] == ["A-0", "A-1", "B-0", "B-1", "B-2"]
    extractor = make_extractor(20, 16000)
    for cut, raw in zip(cuts, read_cuts(folder.raw_cuts("train"), "stage 1"), strict=True):
        talk, index = cut.id.split("-")
        line = (talks / "train" / "stm" / f"{talk}.stm").read_text().splitlines()[int(index)].split()
        start, end = (round(float(field) * 16000) for field in line[3:5])
        samples = soundfile.read(talks / "train" / "sph" / f"{talk}.sph", start=start, stop=end, dtype="float32")[0]
        np.testing.assert_array_equal(load_samples(raw)[0], samples)
        expected = extractor.extract(samples, 16000)
        # Stored features are rounded to 2^-5.
        np.testing.assert_allclose(cut.load_features(), expected, atol=2**-5)
        assert cut.supervisions[0].text == " ".join(line[6:])
        assert slow[cut.id].load_features().shape[0] == pytest.approx(len(expected) / 0.9, abs=1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (" 0.25 ", " 90.5 ", r"A\.stm:1: the segment ends at .* s, not behind its start at 90\.5 s"),
        (" 0.25 ", " -0.25 ", r"A\.stm:1: the segment starts at -0\.25 s, before the start of its talk"),
        (" 0.25 ", " zero ", r"A\.stm:1: start 'zero' and end '.*' must be seconds"),
        ("A 1 A ", "Z 1 A ", r"A\.stm:1: the line is of talk Z"),
        ("A 1 A 0.25", "A 0.25", r"A\.stm:1: expected 'talk channel speaker start end <labels> word \.\.\.'"),
    ],
)
def test_broken_lines_are_named(talks: Path, old: str, new: str, message: str) -> None:
    if new == "A 0.25":
        (talks / "train" / "stm" / "A.stm").write_text("A 1 A 0.25\n")
    else:
        spoil(talks, old, new)
    with pytest.raises(UserError, match=message):
        CORPORA["tedlium2"].list_utterances(talks, SETS, {})


def test_an_empty_transcript_is_named(talks: Path) -> None:
    (talks / "train" / "stm" / "A.stm").write_text("")
    with pytest.raises(UserError, match=r"A\.stm: holds no segment; copy the file again"):
        CORPORA["tedlium2"].list_utterances(talks, SETS, {})


def test_a_segment_beyond_its_talk_is_left_out_of_training_and_refused_elsewhere(talks: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    spoil(talks, "A 1 A 0.25 ", "A 1 A 0.25 900")
    prepare(config(corpus="tedlium2").data, data, talks, False, quiet)
    (bad,) = read_bad(DataFolder(data).raw_bad("train"))
    assert bad.id == "A-0" and re.search(r"A\.stm:1: the segment from 0\.25 to 900\S+ s is not within the", bad.reason)
    with pytest.raises(UserError, match=r"train: 1 of 5 training utterances cannot be used, above data\.max_bad_share"):
        prepare(config(corpus="tedlium2", max_bad_share=0.1).data, data, talks, False, quiet)
    spoil(talks, "D 1 D 0.25 ", "D 1 D 0.25 900", "test/stm/D")
    with pytest.raises(UserError, match=r"test: D-0: .*D\.stm:1: the segment"):
        prepare(config(corpus="tedlium2").data, data, talks, False, quiet)


def test_a_talk_without_its_other_file_is_named(talks: Path) -> None:
    (talks / "train" / "sph" / "B.sph").unlink()
    with pytest.raises(UserError, match=r"train: talk B lacks its \.sph or its \.stm file"):
        CORPORA["tedlium2"].list_utterances(talks, SETS, {})
    with pytest.raises(UserError, match=r"'eval'.*dev, test, train"):
        CORPORA["tedlium2"].list_utterances(talks, ("dev", "eval"), {})
