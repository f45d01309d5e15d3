"""Bad own data through slimasr-prepare: one line that names the file, the line and what to do."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, Fbank, FbankConfig
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from tests.cli.own_desk import (
    Desk,
    address,
    alone,
    audio_alone,
    audio_of_others,
    broken_line,
    changed_cut,
    command_in_cuts,
    damaged_gzip,
    empty_folder,
    faster,
    good,
    hostile_shar,
    latin,
    mixed_cuts,
    mixed_rates,
    shard_without_audio,
    shorter_shard,
    slow_shar,
    stereo,
    truncated,
    truncated_shard,
    twins,
    two_formats,
    two_tables,
    two_transcripts,
    wide,
)
from tests.cli.test_bad_input import error_of
from tests.data.own import SPOKEN as GOOD
from tests.data.own import (
    write_audio,
    write_lines,
    write_wav,
)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    write_audio(tmp_path / "audio")
    return Desk(tmp_path)


Spoil = Callable[[Desk], object]
WHOLE: dict[str, tuple[Spoil, str]] = {
    "no path": (lambda d: d.sources.update(train="/none/x"), "/none/x: no such folder or file; correct data.sources"),
    "no data": (empty_folder, r"train: holds no data in a known format: neither wav\.scp"),
    "no text": (audio_alone, r"audio without transcripts; write the text of ann/ann-1\.wav to ann/ann-1\.txt"),
    "one wav": (lambda d: d.sources.update(train=good(d)), r"ann-1\.wav: is one audio file; name the folder"),
    "wav.scp": (lambda d: d.sources.update(train=f"{d.root}/good/wav.scp"), r"name the folder .*good instead"),
    "ending": (lambda d: d.sources.update(train=f"{d.root}/conf.yaml"), r"conf\.yaml: its name says no format"),
    "two formats": (two_formats, r"table .*\(holds more\.csv\) and Kaldi .*\(holds wav\.scp\).*data\.options\.format"),
    "two tables": (two_tables, r"holds 2 lists \(more\.csv, other\.tsv\); name the one to read in data\.sources"),
    "two transcripts": (two_transcripts, r"ann-1\.wav: has two transcripts, ann-1\.txt and ann-1\.lab; keep one"),
    "twins": (twins, r"ann-1\.flac: ann-1\.wav has the same name.*keep one of them"),
    "no sources": (lambda d: None, r"data\.sources: the training set train needs a path here.*dev, test"),
    "bad option": (lambda d: (d.table(), d.options.update(format="text")), r"data\.options\.format: .*'kaldi'"),
    "bad channel": (
        lambda d: (d.table(), d.options.update(channel="left")),
        r"data\.options\.channel: .*average.*left",
    ),
}
KALDI: dict[str, tuple[Spoil, str]] = {
    "pipe": (
        lambda d: d.kaldi("wav.scp", f"ann-1 {good(d)}", f"ann-2 touch {d.root}/ran |", f"bob-1 {good(d, 2)}"),
        r"wav\.scp:2: recording ann-2 is the output of the command 'touch .*ran'.*data\.options\.allow_pipes",
    ),
    "failing pipe": (
        lambda d: (
            d.kaldi("wav.scp", "ann-1 echo bad >&2; exit 3 |"),
            write_lines(d.root / "train/text", ["ann-1 uno"]),
        ),
        r"wav\.scp:1: recording ann-1 is the output",
    ),
    "no text": (lambda d: (d.kaldi("text"), (d.root / "train/text").unlink()), r"train/text is missing: a Kaldi"),
    "no recording": (
        lambda d: d.kaldi("text", "ann-1 a", "cid-1 b"),
        r"text:2: utterance cid-1 is not in wav\.scp; add",
    ),
    "twice": (
        lambda d: d.kaldi("text", "ann-1 a", "bob-1 b", "ann-1 a"),
        r"text:3: ann-1 is in line 1 already; keep one",
    ),
    "end first": (
        lambda d: d.kaldi("segments", "ann-1 ann-1 0 0.1", "ann-2 ann-1 0.2 0.1", "bob-1 bob-1 0 0.1"),
        r"segments:2: segment ann-2 ends at 0\.1 s, not behind its start at 0\.2 s",
    ),
    "beyond": (
        lambda d: d.kaldi("segments", "ann-1 ann-1 0 0.1", "ann-2 ann-1 0.2 9", "bob-1 bob-1 0 0.1"),
        r"segments:2: the segment from 0\.2 to 9 s is not within the 0\.3 s of .*ann-1\.wav",
    ),
    "no times": (
        lambda d: d.kaldi("segments", "ann-1 ann-1 0"),
        r"segments:1: expected 'UTTERANCE RECORDING START END'",
    ),
    "no channel": (
        lambda d: d.kaldi("segments", "ann-1 ann-1 0 1 A"),
        r"segments:1: expected 'UTTERANCE RECORDING START END'.*number of a channel",
    ),
    "nan": (
        lambda d: d.kaldi("segments", "ann-1 ann-1 0 nan"),
        r"segments:1: start 0 and end nan of ann-1 must be sec",
    ),
    "elsewhere": (
        lambda d: d.kaldi("segments", "ann-1 cid 0 1", "ann-2 ann-2 0 1", "bob-1 bob-1 0 1"),
        r"segments:1: recording cid is not in .*wav\.scp; add it there",
    ),
    "archive": (
        lambda d: d.kaldi("wav.scp", *(f"{s.id} a.ark:17" for s in GOOD)),
        r"wav\.scp:1: a\.ark:17 is a place in",
    ),
    "no words": (lambda d: d.kaldi("text", "ann-1", "ann-2 a", "bob-1 b"), r"ann-1: .*text:1: empty transcript"),
    "no audio": (
        lambda d: d.kaldi("wav.scp", f"ann-1 {good(d)}", "ann-2 /none/a.wav", f"bob-1 {good(d, 2)}"),
        r"ann-2: /none/a\.wav: no such file; listed in .*wav\.scp:2$",
    ),
}
LISTS: dict[str, tuple[Spoil, str]] = {
    "column": (
        lambda d: (d.table("a.wav,uno"), d.options.update(text_column="words")),
        r"train\.csv:1: there is no words \(data\.options\.text_column\); there are: path, sentence",
    ),
    "unknown": (
        lambda d: d.table("a.wav,uno", header="path,said"),
        r"csv:1: none of path, said is known to hold the text; name it by data\.options\.text_column",
    ),
    "columns": (
        lambda d: d.table(f"{good(d)},uno", "a.wav,due, tre"),
        r"csv:3: has 3 columns, the header has 2 \(path",
    ),
    "one column": (lambda d: d.table(header="path"), r"csv:1: expected the names of the columns, with commas"),
    "same column": (lambda d: d.table(header="path,text,text"), r"csv:1: two columns are named 'text'; rename one"),
    "same but for case": (
        lambda d: d.table(f"{good(d)},uno,due", header="path,Text,text"),
        r"csv:1: Text and text both name the text; rename one of them",
    ),
    "nothing": (lambda d: d.table().write_text(""), r"train\.csv: is empty; its first line must name the columns"),
    "quotes": (
        lambda d: d.table(f"{good(d)},uno", 'a.wav,"due'),
        r"csv:3: is not a row of a table \(.*check the quotes",
    ),
    "no rows": (lambda d: d.table(), r"train\.csv: lists no utterance; remove it from data\.sources"),
    "no path": (lambda d: d.table(",uno"), r"csv:2: names no audio file; complete the line"),
    "missing": (lambda d: d.table(f"{good(d)},uno", "none.wav,due"), r"none\.wav: no such file; listed in .*csv:3$"),
    "moved": (
        lambda d: d.table("/none/a.wav,uno", "/none/b.wav,due"),
        r"csv:2: /none/a\.wav is not there, nor are the 1 that follow; .*set data\.options\.audio_root",
    ),
    "climbs": (
        lambda d: d.table("audio/../../x.wav,uno"),
        r"csv:2: the path audio/\.\./\.\./x\.wav leads out of .*; write it as an absolute path, or set data\.options",
    ),
    "twice": (
        lambda d: d.table(f"{good(d)},uno,a", f"{good(d, 1)},due,a", header="path,text,id"),
        r"csv:3: utterance a is listed twice, first in .*csv:2; keep one of them",
    ),
    "same line": (
        lambda d: d.table(*[f"{good(d)},uno"] * 2),
        r"csv:3: utterance .*-ann-1 is listed twice, first in .*:2",
    ),
    "twice, and split": (
        lambda d: (d.table(*[f"{good(d)},uno"] * 4), d.data.update(dev="other")),
        r"csv:3: utterance .*-ann-1 is listed twice, first in .*:2",
    ),
    "space": (
        lambda d: d.table(f"{good(d)},uno,a b", header="path,text,id"),
        r"csv:2: utterance id 'a b' holds U\+0020",
    ),
    "no id": (lambda d: d.table(f"{good(d)},uno,", header="path,text,id"), r"csv:2: the utterance id is empty"),
    "wide": (wide, r"train\.csv: is UTF-16 or UTF-32 text; save it as UTF-8"),
    "latin": (latin, r"train\.csv:2: is not UTF-8 text .*convert the file to UTF-8"),
    "blank": (lambda d: d.table(f"{good(d)},uno", f"{good(d, 1)}, "), r"csv:3: empty transcript"),
    "no json": (lambda d: d.json() or write_lines(d.root / "train.jsonl", ['{"a"']), r"jsonl:1: is not JSON .*jq -c"),
    "array": (
        lambda d: d.json() or write_lines(d.root / "train.jsonl", ["[1]"]),
        r"jsonl:1: needs an object .*\[1\].*jq -c",
    ),
    "deep": (
        lambda d: d.json() or write_lines(d.root / "train.jsonl", ["[" * 100_000 + "]" * 100_000]),
        r"jsonl:1: is not JSON .*jq -c",
    ),
    "half a character": (
        lambda d: d.json(text="a \ud83d"),
        r"jsonl:1: the transcript holds U\+D83D, which no text file",
    ),
    "NUL": (lambda d: d.json(text="a\0b"), r"jsonl:1: the transcript holds U\+0000, which no text file"),
    "no path at all": (
        lambda d: d.json(audio_filepath="a\0.wav"),
        r"jsonl:1: 'a\\x00\.wav' holds a character that no path can hold",
    ),
    "half a path": (
        lambda d: d.json(audio_filepath="\ud83d.wav"),
        r"jsonl:1: '\\ud83d\.wav' holds a character that no path can hold",
    ),
    "offset": (lambda d: d.json(offset="soon"), r"jsonl:1: offset: needs seconds from 0 on, not 'soon'"),
    "negative": (lambda d: d.json(offset=-1), r"jsonl:1: offset: needs seconds from 0 on, not '-1'"),
    "endless": (
        lambda d: d.json(offset=1e308, duration=1e308),
        r"jsonl:1: offset: needs seconds from 0 on, not '1e\+308'",
    ),
    "end before start": (
        lambda d: d.json(start=0.2, end=0.1),
        r"jsonl:1: end: 0\.1 s is not behind the start at 0\.2 s",
    ),
    "end and duration": (
        lambda d: d.json(start=0, end=0.1, duration=0.3),
        r"jsonl:1: duration: 0\.3 s are not the 0\.1 s from 0 s to end 0\.1 s; correct one",
    ),
    "no number": (lambda d: d.json(text=float("nan")), r"jsonl:1: text: needs a text, not NaN; write null"),
    "two dots": (lambda d: d.json(audio_filepath="..a.wav"), r"jsonl:1: /.*/\.\.a\.wav is not there"),
    "all left out": (
        lambda d: (d.json(text=""), d.data.update(max_bad_share=1.0)),
        r"set train of corpus own has no utterances that can be used; first: .*jsonl:1: empty transcript",
    ),
    "no name": (lambda d: d.json(**{"": "x"}, speaker=[1]), r"jsonl:1: speaker: needs a text, not \[1\]"),
    "type": (lambda d: d.json(text=["uno"]), r"jsonl:1: text: needs a text, not \['uno'\]"),
    "too long": (
        lambda d: d.json(offset=0.1, duration=3),
        r"jsonl:1: the segment from 0\.1 to 3\.1 s is not within the",
    ),
    "gzip": (damaged_gzip, r"train\.jsonl\.gz: cannot be read \(.*copy it again"),
}
AUDIO: dict[str, tuple[Spoil, str]] = {
    "0 bytes": (
        lambda d: d.sound("a.wav", b""),
        r"a\.wav: is not a readable audio file \(it is empty\); listed in .*jsonl:1$",
    ),
    "header": (
        lambda d: write_wav(d.root / "a.wav", 0) and d.json(audio_filepath="a.wav"),
        r"a\.wav: holds no samples",
    ),
    "truncated": (truncated, r"cut\.wav: is truncated: its header claims 9600 bytes .*; listed in .*jsonl:1$"),
    "text": (
        lambda d: d.sound("a.wav", b"no audio at all"),
        r"a\.wav: is not a readable audio file \(.*\); listed in .*jsonl:1$",
    ),
    "m4a": (
        lambda d: d.sound("a b.m4a", b"\0\0\0 ftypM4A "),
        r"convert it first: ffmpeg -i '.*a b\.m4a' -vn '.*a b\.flac'",
    ),
    "stereo": (stereo, r"two\.wav: has 2 channels, needs to be mono: .*data\.options\.channel .*jsonl:1$"),
    "channel": (
        lambda d: (stereo(d), d.options.update(channel=2)),
        r"two\.wav: has channels 0 to 1, and no channel 2; listed in .*jsonl:1$",
    ),
    "mono": (
        lambda d: (d.json(), d.options.update(channel=1)),
        r"ann-1\.wav: is mono, and has no channel 1, as channels count from 0; listed in .*jsonl:1$",
    ),
    "rates": (mixed_rates, r"slow\.wav: sampling rate 8000 differs .* set data\.resample to true .*csv:3$"),
}
LHOTSE: dict[str, tuple[Spoil, str]] = {
    "alone": (alone, r"my_recordings_train\.jsonl\.gz: the manifest of supervisions is missing beside it"),
    "mixed": (mixed_cuts, r"cuts\.jsonl\.gz:1: a MixedCut cannot be read; write its audio to a file first"),
    "address": (address, r"cuts\.jsonl\.gz:1: the audio of recording ann-1 is of type 'url', not a file; write it"),
    "speed": (faster, r"cuts\.jsonl\.gz:1: recording ann-1.* is to be changed by Speed"),
    "command": (
        command_in_cuts,
        r"cuts\.jsonl\.gz:1: recording ann-1 is the output of the command 'touch .*allow_pipes",
    ),
    "line": (broken_line, r"train\.jsonl:2: lhotse cannot read this item"),
    "no id": (lambda d: changed_cut(d, id=None), r"train\.jsonl:1: the utterance id is empty"),
    "start": (lambda d: changed_cut(d, start="soon"), r"train\.jsonl:1: lhotse cannot read this item \(.*'soon'"),
    "length": (
        lambda d: changed_cut(d, duration=float("nan")),
        r"ann-1: .*train\.jsonl:1: the segment ends at nan s, not behind its start at 0 s",
    ),
    "words": (lambda d: changed_cut(d, text=["uno"]), r"train\.jsonl:1: text: needs a text, not \['uno'\]"),
    "truncated": (truncated_shard, r"recording\.000000\.tar: cannot be read: damaged, truncated or of other cuts \("),
    "others": (audio_of_others, r"000000\.tar: cannot be read: .*\(Mismatched IDs: cut ID is 'ann-1'"),
    "shorter": (shorter_shard, r"000000\.tar: holds the audio of 1 cuts, cuts\.000000\.jsonl\.gz lists 2: truncated"),
    "no audio": (shard_without_audio, r"cuts\.000001\.jsonl\.gz: there is no recording\.000001\.tar beside it"),
    "slow shar": (slow_shar, r"sampling rate 8000 differs .* set data\.resample .*cuts\.000000\.jsonl\.gz:1$"),
}
TABLE = {
    f"{group}: {name}": case
    for group, cases in (("whole", WHOLE), ("kaldi", KALDI), ("lists", LISTS), ("audio", AUDIO), ("lhotse", LHOTSE))
    for name, case in cases.items()
}


@pytest.mark.parametrize("case", TABLE)
def test_one_line_names_file_line_and_what_to_do(case: str, desk: Desk) -> None:
    spoil, expected = TABLE[case]
    spoil(desk)
    error = error_of(desk.prepare())
    assert re.search(expected, error), error
    # Nothing was run, and nothing is half-done.
    assert not (desk.root / "ran").exists()
    assert not list(desk.root.glob("data/manifests/cuts_*"))


def test_a_command_that_fails_is_named(desk: Desk) -> None:
    KALDI["failing pipe"][0](desk)
    desk.options["allow_pipes"] = True
    error = error_of(desk.prepare())
    assert re.search(r"wav\.scp:1: the command 'echo bad >&2; exit 3' failed with status 3: bad", error), error


def test_names_in_an_archive_lead_nowhere(desk: Desk) -> None:
    hostile_shar(desk)
    before = {path for path in desk.root.parent.rglob("*") if path.is_file()}
    status, _, err = desk.prepare()
    assert status == 0, err
    made = {path for path in desk.root.parent.rglob("*") if path.is_file()} - before
    inside = [desk.root / name for name in ("data", "good", "others", "conf.yaml")]
    assert made and all(any(path.is_relative_to(folder) for folder in inside) for path in made)


def test_texts_with_byte_order_marks_and_other_line_ends_are_read(desk: Desk) -> None:
    table = desk.table(f"{good(desk)},uno", f"{good(desk, 1)},due tre")
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n"))
    status, out, err = desk.prepare()
    assert status == 0, err
    with gzip.open(desk.root / "data/manifests/cuts_train.jsonl.gz", "rt") as file:
        cuts = [json.loads(line) for line in file]
    assert [cut["supervisions"][0]["text"] for cut in cuts] == ["uno", "due tre"]
    assert ["train", "2"] in [line.split()[:2] for line in out.splitlines()]


def test_a_source_that_nothing_uses_is_said(desk: Desk) -> None:
    desk.table(f"{good(desk)},uno")
    desk.sources["tset"] = str(desk.root / "train.csv")
    status, _, stderr = desk.prepare()
    assert status == 0 and "note: data.sources: the set tset is used by none of data.train" in stderr


def test_the_format_that_was_found_is_said(desk: Desk) -> None:
    desk.json()
    for more in ((), ("--only-corpus",)):
        status, _, err = desk.prepare(*more)
        assert status == 0, err
        assert f"note: train: {desk.root}/train.jsonl: JSON lines" in err
        assert f"note: dev: {desk.root}/good: Kaldi data directory (holds wav.scp)" in err


def test_slashes_in_ids_and_averages_of_channels_go_through_the_features(desk: Desk) -> None:
    write_wav(desk.root / "two.wav", channels=2)
    desk.table(f"{good(desk)},uno,a/b/1", "two.wav,due,a/b/2", header="path,text,id")
    desk.options["channel"] = "average"
    assert desk.prepare()[0] == 0
    from slimasr.cli.features import run as features

    arguments = ["--config", str(desk.root / "conf.yaml"), "--data", str(desk.root / "data")]
    result = CliRunner().invoke(command_app(features), arguments)
    assert result.exit_code == 0, result.stderr
    cuts = CutSet.from_jsonl(desk.root / "data/features/cuts_train.jsonl.gz")
    assert [cut.id for cut in cuts] == ["a/b/1", "a/b/2"]
    extractor = Fbank(FbankConfig(num_mel_bins=80))
    for cut, path in zip(
        cuts.with_features_path_prefix(desk.root / "data/features"), (good(desk), desk.root / "two.wav"), strict=True
    ):
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        expected = extractor.extract(samples.mean(axis=1), rate)
        # The storage rounds.
        np.testing.assert_allclose(cut.load_features(), expected, atol=0.05)
