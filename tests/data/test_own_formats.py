"""Corpus own: the same utterances in all formats, and what is particular to each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from slimasr.config.corpora import OwnOptions
from slimasr.config.data import DataConfig
from slimasr.config.load import parse_config
from slimasr.config.schema import Config
from slimasr.data.audio.recordings import load_samples
from slimasr.data.corpora import CORPORA, ListedUtterance, corpus_of
from slimasr.data.features.frames import extract_frames
from slimasr.data.features.shards import at_speed, make_extractor
from slimasr.data.files import DataFolder, read_cuts
from slimasr.data.identity.digests import identify
from slimasr.data.identity.manifest_record import check_corpus
from slimasr.data.manifests.stage import build_cuts, prepare
from slimasr.data.own.find import detect
from slimasr.data.own.read import make_audio, read_source
from slimasr.errors import UserError
from slimasr.progress import silent
from tests.data.own import (
    RATE,
    SPOKEN,
    WRITERS,
    Spoken,
    kaldi,
    nemo,
    shar,
    write_audio,
    write_lines,
    write_wav,
)

FOUND = {"lhotse pair": "lhotse", "lhotse cuts": "lhotse", "nemo": "jsonl", "common voice": "csv", "commas": "csv"}


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audio")
    write_audio(folder)
    return folder


def listed(path: Path, made: Path, **options: Any) -> list[ListedUtterance]:
    """What a source lists, after its audio has been written."""
    parsed = OwnOptions(**options)
    make_audio(path, parsed, made, silent)
    return list(read_source(path, parsed, made))


@pytest.mark.parametrize("kind", WRITERS)
def test_all_formats_give_the_same_utterances_and_audio(kind: str, audio: Path, tmp_path: Path) -> None:
    path = WRITERS[kind](tmp_path / "train", audio)
    assert detect(path).name == FOUND.get(kind, kind)
    utterances = listed(path, tmp_path / "made")
    assert [(item.id, item.text, item.speaker, item.language) for item in utterances] == [
        (item.id, item.text, item.speaker, item.language) for item in SPOKEN
    ]
    # ``file:line``; tables have a header.
    numbers = [int(item.source.rpartition(":")[2]) for item in utterances]
    expected = {"csv": [2, 3, 4], "shar": [1, 2, 1]}.get(detect(path).name, [1, 2, 3])
    assert numbers == expected
    cuts, bad = build_cuts(utterances, DataConfig(corpus="own", sources={"train": str(path)}))
    assert not bad
    for cut, item in zip(cuts, SPOKEN, strict=True):
        samples, _ = soundfile.read(audio / item.file, dtype="float32")
        np.testing.assert_array_equal(load_samples(cut), samples[None])


def write_commands(folder: Path, audio: Path) -> Path:
    kaldi(folder, audio)
    write_lines(
        folder / "wav.scp", (f"{item.id} cat '{audio / item.file}' && echo run >> {folder}/runs |" for item in SPOKEN)
    )
    return folder


def test_commands_run_once_and_only_if_they_may(audio: Path, tmp_path: Path) -> None:
    folder = write_commands(tmp_path / "train", audio)
    with pytest.raises(UserError, match=r"wav\.scp:1: recording ann-1 .*data\.options\.allow_pipes"):
        listed(folder, tmp_path / "made")
    for _ in range(2):
        utterances = listed(folder, tmp_path / "made", allow_pipes=True)
    assert (folder / "runs").read_text() == "run\n" * len(SPOKEN)
    for utterance, item in zip(utterances, SPOKEN, strict=True):
        assert utterance.audio.read_bytes() == (audio / item.file).read_bytes()


def test_segments_are_cut_out_of_their_recordings(audio: Path, tmp_path: Path) -> None:
    folder = kaldi(tmp_path / "train", audio)
    segments = ["ann-1 bob-1 0.05 0.2", "ann-2 ann-2 0.1 -1", "bob-1 bob-1 0 0.3"]
    write_lines(folder / "segments", segments)
    cuts, bad = build_cuts(listed(folder, tmp_path), DataConfig(corpus="own", sources={"train": "x"}))
    assert not bad
    pieces = [("bob/bob-1.wav", 800, 3200), ("ann/ann-2.wav", 1600, 5600), ("bob/bob-1.wav", 0, 4800)]
    for cut, (file, start, end) in zip(cuts, pieces, strict=True):
        samples, _ = soundfile.read(audio / file, dtype="float32")
        np.testing.assert_array_equal(load_samples(cut), samples[None, start:end])


def test_lengths_of_whole_files_may_be_rounded_and_offsets_cut(audio: Path, tmp_path: Path) -> None:
    whole = listed(nemo(tmp_path / "whole", audio), tmp_path)
    cuts, _ = build_cuts(whole, DataConfig(corpus="own", sources={"train": "x"}))
    assert [cut.duration for cut in cuts] == [item.seconds for item in SPOKEN]
    row = {"audio_filepath": str(audio / SPOKEN[1].file), "text": "due", "offset": 0.1, "duration": 0.1}
    lines = [json.dumps(row), json.dumps(row | {"offset": 0.2, "speaker": 7})]
    parts = listed(write_lines(tmp_path / "parts.jsonl", lines), tmp_path)
    cuts, _ = build_cuts(parts, DataConfig(corpus="own", sources={"train": "x"}))
    assert [(cut.start, cut.duration) for cut in cuts] == [(0.1, 0.1), (0.2, 0.1)]
    # Start and end in ms make the ids of segments different.
    assert [item.id for item in parts] == ["parts-ann-ann-2-0000100-0000200", "parts-ann-ann-2-0000200-0000300"]
    assert [item.speaker for item in parts] == ["", "7"]


def test_the_end_of_a_segment_is_as_good_as_its_length(audio: Path, tmp_path: Path) -> None:
    file = audio / SPOKEN[1].file
    for header, row in (
        ("path,text,start,end", "0.1,0.25"),
        ("path,text,start_time,end_time", "0.1,0.25"),
        ("path,text,start,duration,end", "0.1,0.15,0.25"),
    ):
        (item,) = listed(write_lines(tmp_path / "parts.csv", [header, f"{file},due,{row}"]), tmp_path)
        assert (item.start, item.duration, item.id) == (0.1, 0.15, "parts-ann-ann-2-0000100-0000250")
    (item,) = listed(
        write_lines(tmp_path / "parts.csv", ["path,text,to", f"{file},due,0.2"]), tmp_path, end_column="to"
    )
    assert (item.start, item.duration) == (0.0, 0.2)


@pytest.mark.parametrize(("channel", "expected"), [("0", (1.0, 0.0)), ("1", (0.0, 1.0)), ("average", (0.5, 0.5))])
def test_one_channel_or_the_average_is_read(channel: str, expected: tuple[float, float], tmp_path: Path) -> None:
    write_wav(tmp_path / "two.wav", channels=2)
    table = write_lines(tmp_path / "train.csv", ["path,text", "two.wav,uno"])
    config = DataConfig(corpus="own", sources={"train": "x"}, sampling_rate=8000, resample=True)
    (cut,), _ = build_cuts(listed(table, tmp_path, channel=channel), config)
    samples, _ = soundfile.read(tmp_path / "two.wav", dtype="float32")
    # lhotse's own way from a mono file.
    soundfile.write(tmp_path / "one.wav", samples @ np.array(expected, np.float32), RATE, subtype="FLOAT")
    mono = write_lines(tmp_path / "mono.csv", ["path,text", "one.wav,uno"])
    (reference,), _ = build_cuts(listed(mono, tmp_path), config)
    for speed in (1.0, 1.1):
        ours, theirs = (at_speed(item, speed) for item in (cut, reference))
        assert load_samples(ours).shape == load_samples(theirs).shape
        np.testing.assert_allclose(load_samples(ours), load_samples(theirs), atol=1e-6)


def test_the_list_names_channels_where_it_can(tmp_path: Path) -> None:
    write_wav(tmp_path / "two.wav", channels=2)
    lines = [json.dumps({"audio_filepath": "two.wav", "text": "a", "channel": n, "id": f"u{n}"}) for n in (0, 1)]
    utterances = listed(write_lines(tmp_path / "train.jsonl", lines), tmp_path)
    recording = Recording.from_file(tmp_path / "two.wav")
    cut = MonoCut("c", 0.0, recording.duration, 1, recording=recording)
    cut.supervisions = [SupervisionSegment("u1", recording.id, 0.0, recording.duration, channel=1, text="a")]
    CutSet([cut]).to_file(tmp_path / "cuts.jsonl")
    (lhotse_cut,) = listed(tmp_path / "cuts.jsonl", tmp_path)
    assert [item.channel for item in (*utterances, lhotse_cut)] == [0, 1, 1]
    cuts, _ = build_cuts(utterances, DataConfig(corpus="own", sources={"train": "x"}))
    samples, _ = soundfile.read(tmp_path / "two.wav", dtype="float32")
    for cut, column in zip(cuts, samples.T, strict=True):
        np.testing.assert_array_equal(load_samples(cut), column[None])


def test_segments_of_kaldi_name_channels(tmp_path: Path) -> None:
    write_lines(tmp_path / "train/wav.scp", [f"two {write_wav(tmp_path / 'two.wav', channels=2)}"])
    write_lines(tmp_path / "train/segments", ["u0 two 0 0.1 0", "u1 two 0 0.1 1", "u2 two 0.1 -1 1", "u3 two 0 0.1 -1"])
    write_lines(tmp_path / "train/text", [f"u{number} a" for number in range(4)])
    assert [item.channel for item in listed(tmp_path / "train", tmp_path)] == [0, 1, 1, None]


def test_a_cut_with_several_supervisions_is_several_utterances(audio: Path, tmp_path: Path) -> None:
    recording = Recording.from_file(audio / SPOKEN[0].file)
    spoken = [SupervisionSegment(f"part-{n}", "x", 0.1 * n, 0.1, text=str(n)) for n in range(2)]
    CutSet([MonoCut("c", 0.05, 0.2, 0, supervisions=spoken, recording=recording)]).to_file(tmp_path / "cuts.jsonl")
    found = [(item.id, item.text, item.start, item.duration) for item in listed(tmp_path / "cuts.jsonl", tmp_path)]
    trimmed = CutSet.from_jsonl(tmp_path / "cuts.jsonl").trim_to_supervisions()
    assert found == [(cut.supervisions[0].id, cut.supervisions[0].text, cut.start, cut.duration) for cut in trimmed]


@pytest.mark.parametrize("ending", ["flac", "ogg", "opus", "mp3", "sph"])
def test_folders_of_audio_and_transcripts_in_any_format(ending: str, tmp_path: Path) -> None:
    formats = {"opus": ("OGG", "OPUS"), "sph": ("NIST", "PCM_16")}
    container, coding = formats.get(ending, (ending.upper(), None))
    samples = 0.1 * np.random.default_rng(0).standard_normal(RATE // 2)
    for folder, end in (("ann", ".txt"), ("bob smith", ".lab")):
        path = tmp_path / "my data" / folder / f"a 1.{ending}"
        path.parent.mkdir(parents=True)
        soundfile.write(path, samples, RATE, format=container, subtype=coding)
        path.with_suffix(end).write_text(" uno\n due\n")
    (tmp_path / "my data" / "._a 1.wav").write_text("not audio")
    source = tmp_path / "my data"
    assert detect(source).name == "folder"
    utterances = listed(source, tmp_path)
    assert [(item.id, item.text, item.speaker) for item in utterances] == [
        ("my_data-ann-a_1", "uno due", "ann"),
        ("my_data-bob_smith-a_1", "uno due", "bob_smith"),
    ]
    cuts, bad = build_cuts(utterances, DataConfig(corpus="own", resample=True))
    assert not bad and len(cuts) == 2
    assert abs(load_samples(cuts[0]).shape[1] - RATE // 2) < 0.1 * RATE


@pytest.mark.parametrize("kind", ["kaldi", "lhotse cuts", "nemo", "common voice"])
def test_speakers_may_have_names_of_several_words(kind: str, tmp_path: Path) -> None:
    spoken = [Spoken("a-1", "uno", "Bob Smith"), Spoken("a-2", "due", "Anna\u00a0Maria")]
    write_audio(tmp_path / "audio", spoken)
    path = WRITERS[kind](tmp_path / "train", tmp_path / "audio", spoken)  # type: ignore[call-arg]
    cuts, bad = build_cuts(listed(path, tmp_path / "made"), DataConfig(corpus="own", sources={"train": str(path)}))
    assert not bad
    assert [cut.supervisions[0].speaker for cut in cuts] == ["Bob_Smith", "Anna_Maria"]


def test_librispeech_s_lists_of_a_folder(tmp_path: Path) -> None:
    chapter = tmp_path / "dev" / "12" / "34"
    for number in range(2):
        write_wav(chapter / f"12-34-{number:04d}.flac")
    write_lines(chapter / "12-34.trans.txt", ["12-34-0000 UNO", "12-34-0001 DUE TRE"])
    found = [(item.id, item.text, item.speaker, item.audio.name) for item in listed(tmp_path / "dev", tmp_path)]
    assert found == [
        ("12-34-0000", "UNO", "12", "12-34-0000.flac"),
        ("12-34-0001", "DUE TRE", "12", "12-34-0001.flac"),
    ]


def test_audio_that_a_list_leaves_out_has_an_empty_transcript(tmp_path: Path) -> None:
    for number in range(2):
        write_wav(tmp_path / "12" / f"12-34-{number:04d}.flac")
    # Columns are sometimes separated by tabs; other systems leave hidden files behind.
    write_lines(tmp_path / "12" / "12-34.trans.txt", ["12-34-0001\tDUE TRE"])
    (tmp_path / "12" / "._12-34.trans.txt").write_bytes(b"\0\xff")
    found = {item.audio.name: (item.text, item.source) for item in listed(tmp_path, tmp_path / "made")}
    assert found["12-34-0001.flac"][0] == "DUE TRE"
    text, source = found["12-34-0000.flac"]
    assert text == "" and "without 12-34-0000.txt" in source


def test_audio_that_has_moved_is_found_below_the_new_root(audio: Path, tmp_path: Path) -> None:
    table = nemo(tmp_path / "lists", Path("/none/corpora/audio"))
    with pytest.raises(UserError, match=r"jsonl:1: /none/corpora/audio/ann/ann-1\.wav is not there, nor are the 2"):
        listed(table, tmp_path)
    for root in (audio, audio.parent):
        # The longest path that fits: ``audio`` may be the name of the root or a folder in it.
        name = root if root == audio else audio.rename(audio.with_name("audio")).parent
        found = [item.audio for item in listed(table, tmp_path, audio_root=str(name))]
        assert [path.read_bytes() for path in found] == [(name / path).read_bytes() for path in found]
        if root != audio:
            audio.with_name("audio").rename(audio)
    with pytest.raises(UserError, match=r"audio_root \(.*\) holds them neither"):
        listed(table, tmp_path, audio_root=str(tmp_path))


def test_common_voice_s_folder_of_clips(tmp_path: Path) -> None:
    write_wav(tmp_path / "clips" / "a.mp3")
    table = write_lines(tmp_path / "dev.tsv", ["client_id\tpath\tsentence\tlocale", 'x\ta.mp3\t"Uno\tit'])
    (utterance,) = listed(table, tmp_path)
    assert (utterance.audio, utterance.id) == (tmp_path / "clips" / "a.mp3", "dev-clips-a")
    assert (utterance.text, utterance.speaker, utterance.language) == ('"Uno', "x", "it")


def test_a_quoted_column_may_hold_lines_and_separators(audio: Path, tmp_path: Path) -> None:
    path = audio / SPOKEN[0].file
    table = tmp_path / "train.csv"
    table.write_text(f'path;text;id\n{path};"uno;\ndue ""tre""";a\n\n{path};quattro;b\n', encoding="utf-8")
    found = [(item.id, item.text, item.source.rpartition(":")[2]) for item in listed(table, tmp_path)]
    assert found == [("a", 'uno;\ndue "tre"', "2"), ("b", "quattro", "5")]


def test_a_changed_shard_is_written_again_and_others_are_kept(audio: Path, tmp_path: Path) -> None:
    folder = shar(tmp_path / "train", audio)
    listed(folder, tmp_path / "made")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "made").rglob("*.flac")}
    # The second shard gets the same cut with other audio.
    write_audio(tmp_path / "audio", first_seed=50)
    changed = shar(tmp_path / "changed", tmp_path / "audio")
    (changed / "recording.000001.tar").rename(folder / "recording.000001.tar")
    with pytest.raises(UserError, match=r"recording\.000001\.tar: has changed"):
        list(read_source(folder, OwnOptions(), tmp_path / "made"))
    utterances = listed(folder, tmp_path / "made")
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "made").rglob("*.flac")}
    assert len(before) == 3 and [path.parent.name for path in before if before[path] != after[path]] == ["000001"]
    samples, _ = soundfile.read(tmp_path / "audio" / SPOKEN[2].file)
    np.testing.assert_array_equal(soundfile.read(utterances[2].audio)[0], samples)


def many(number: int = 60, speakers: int = 12) -> list[Spoken]:
    return [Spoken(f"s{n % speakers}-{n}", f"uno {n}", f"s{n % speakers}", seconds=0.11) for n in range(number)]


def test_sets_without_a_source_are_split_off(tmp_path: Path) -> None:
    spoken = many()
    write_audio(tmp_path / "audio", spoken)
    source = kaldi(tmp_path / "all", tmp_path / "audio", spoken)
    data = {"corpus": "own", "sources": {"train": str(source)}, "options": {"split": "0.2 0.2", "split_seed": 3}}
    config = parse_config({"name": "x", "data": data, "tokenizer": {"kind": "char"}})
    notes: list[str] = []
    counts = prepare(config.data, tmp_path / "data", None, False, silent, notes=notes.extend)
    folder = DataFolder(tmp_path / "data")
    speakers = {
        name: {cut.supervisions[0].speaker for cut in read_cuts(folder.raw_cuts(name), "stage 1")} for name in counts
    }
    assert list(counts) == ["train", "dev", "test"] and sum(counts.values()) == len(spoken)
    assert sum(map(len, speakers.values())) == len(set().union(*speakers.values())) == 12
    assert json.loads(folder.split.read_text())["sizes"]["dev"]["utterances"] == counts["dev"]
    assert "split by speaker" in notes[0]
    # The record of a set says what it was split off from; another split needs stage 1 again.
    other = parse_config({"name": "x", "data": data | {"options": {}}, "tokenizer": {"kind": "char"}})
    for changed in (other, config_with_sources(config, train=str(source), dev=str(source))):
        with pytest.raises(UserError, match=r"prepared with data\.(options|sources) .*run stage 1"):
            check_corpus(changed.data, folder, "train")
    check_corpus(config.data, folder, "dev")


def config_with_sources(config: Config, **sources: str) -> Config:
    return config.model_copy(update={"data": config.data.model_copy(update={"sources": sources})})


def test_a_source_of_one_set_does_not_concern_the_others(audio: Path, tmp_path: Path) -> None:
    sources = {
        name: str(write_lines(tmp_path / name / "list.csv", rows(audio, place)))
        for place, name in enumerate(("train", "dev", "test"))
    }
    config = parse_config({"name": "x", "data": {"corpus": "own", "sources": sources}, "tokenizer": {"kind": "char"}})
    assert set(prepare(config.data, tmp_path / "data", None, False, silent).values()) == {1}
    folder = DataFolder(tmp_path / "data")
    # Lists of one name give different ids, and another test set leaves the training set as it is.
    (train,), (dev,) = (read_cuts(folder.raw_cuts(name), "stage 1") for name in ("train", "dev"))
    assert (train.id, dev.id) == ("train-ann-ann-1", "dev-ann-ann-2")
    changed = config_with_sources(config, **sources | {"test": "elsewhere"})
    check_corpus(changed.data, folder, "train")
    with pytest.raises(UserError, match=r"data\.sources"):
        check_corpus(changed.data, folder, "test")
    assert not folder.split.exists()


def rows(audio: Path, place: int) -> list[str]:
    return ["path,text", f"{audio / SPOKEN[place].file},uno"]


def test_a_set_may_have_several_sources(audio: Path, tmp_path: Path) -> None:
    paths = [str(write_lines(tmp_path / f"{place}.csv", rows(audio, place))) for place in range(2)]
    data = DataConfig(corpus="own", sources={"train": paths, "dev": paths[0]}, test=[])
    corpus = corpus_of(data)
    sets = corpus.list_utterances(tmp_path, ["train", "dev"], {})
    assert [item.id for item in sets["train"]] == ["train-0-ann-ann-1", "train-1-ann-ann-2"]
    assert [item.id for item in sets["dev"]] == ["train-0-ann-ann-1"]


def test_sources_that_are_missing_or_out_of_place() -> None:
    with pytest.raises(ValueError, match=r"sources: only corpus own reads them"):
        DataConfig(corpus="an4", sources={"train": "x"})
    with pytest.raises(ValueError, match=r"sources: the training set train-fr needs a path"):
        DataConfig(corpus="own", train=["train-fr+train-it"], sources={"train-it": "x"})
    with pytest.raises(ValueError, match=r"sources: a\+b: names with \+ join"):
        DataConfig(corpus="own", sources={"train": "x", "a+b": "y"})
    two = DataConfig(corpus="own", sources={"train": "x"}, test=["a", "b"])
    with pytest.raises(UserError, match=r"data\.sources: test has 2 sets without a path \(a, b\)"):
        corpus_of(two).list_utterances(Path(), ["a"], {})
    further = DataConfig(corpus="own", sources={"train": "x", "dev": "y"}, test=[])
    with pytest.raises(UserError, match=r"data\.sources: the set more needs a path here; there are train, dev"):
        corpus_of(further).list_utterances(Path(), ["more"], {})


def test_an4_as_a_kaldi_directory_is_the_built_in_corpus(corpus: Callable[[str], Path], tmp_path: Path) -> None:
    """Of a few utterances: the same identity of the data, and the same features bit for bit."""
    built_in = CORPORA["an4"].list_utterances(corpus("an4"), ["train"], {})["train"][:6]
    write_lines(tmp_path / "train" / "wav.scp", (f"{item.id} {item.audio}" for item in built_in))
    write_lines(tmp_path / "train" / "text", (f"{item.id} {item.text}" for item in built_in))
    write_lines(tmp_path / "train" / "utt2spk", (f"{item.id} {item.speaker}" for item in built_in))
    config = DataConfig(corpus="an4")
    ours, _ = build_cuts(listed(tmp_path / "train", tmp_path, language="en"), config)
    theirs, _ = build_cuts(built_in, config)
    assert identify(ours) == identify(theirs)
    extractor = make_extractor(80, RATE)
    for cut, reference in zip(ours, theirs, strict=True):
        features = [extract_frames(extractor, load_samples(item), RATE, item.duration) for item in (cut, reference)]
        np.testing.assert_array_equal(*features)
