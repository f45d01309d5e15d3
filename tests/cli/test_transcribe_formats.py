"""What ``slimasr-transcribe`` reads and writes: formats, folders, lists, standard input, processes."""

from __future__ import annotations

import io
import json
from pathlib import Path, PurePath

import numpy as np
import pytest
import soundfile
from click.testing import Result
from typer.testing import CliRunner

import slimasr
from slimasr.cli.common import command_app
from slimasr.cli.transcribe import run
from slimasr.cli.transcribe_files import _seconds
from slimasr.data.timelines.ctm import read_ctm
from slimasr.decoding.searches.timed import Transcript
from slimasr.decoding.transcription.inputs import Recording
from slimasr.decoding.transcription.outputs import json_fields
from slimasr.decoding.transcription.transcribe import Finished, Recognised, total_seconds
from slimasr.experiment import Experiment
from tests.decoding.made_up import RATE, noise
from tests.decoding.streaming import EMFORMER, whole, write_streaming
from tests.decoding.test_subtitles import parse_srt, parse_vtt


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_streaming(tmp_path_factory.mktemp("formats"), EMFORMER)


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``a.wav``, ``sub/b.flac`` and ``sub/deep/c d.wav``, and files that are no audio."""
    root = tmp_path_factory.mktemp("audio")
    (root / "sub" / "deep").mkdir(parents=True)
    soundfile.write(root / "a.wav", noise(1.5, seed=3), RATE)
    soundfile.write(root / "sub" / "b.flac", noise(0.9, seed=1), RATE)
    soundfile.write(root / "sub" / "deep" / "c d.WAV", noise(1.1, seed=2), RATE, format="WAV")
    (root / "notes.txt").write_text("no audio")
    soundfile.write(root / "sub" / ".hidden.wav", noise(0.5, seed=1), RATE)
    return root


def call(exp: Path, *arguments: object, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(command_app(run), [str(exp), *map(str, arguments)], input=stdin)


def done(exp: Path, *arguments: object, stdin: bytes = b"") -> str:
    result = call(exp, *arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(exp: Path, *arguments: object, stdin: bytes = b"") -> str:
    result = call(exp, *arguments, stdin=stdin)
    assert result.exit_code == 1 and result.stdout == "", result.output
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def test_json_is_the_final_object_of_a_stream_and_words(exp: Path, audio: Path) -> None:
    found = json.loads(done(exp, "--format", "json", audio / "a.wav"))
    stream = json.loads(done(exp, "--stream", "--format", "json", audio / "a.wav").splitlines()[-1])
    words = found.pop("words")
    assert found == stream and len(found["tokens"]) > 5
    assert [word["word"] for word in words] == found["text"].split()
    for word in words:
        assert word["start"] in found["times"]
        assert 0.0 <= word["start"] <= word["end"] <= found["seconds"] and 0.0 <= word["confidence"] <= 1.0
    expected = whole(Experiment.open(exp), soundfile.read(audio / "a.wav", dtype="float32")[0])
    assert tuple(found["times"]) == expected.times
    lines = [json.loads(line) for line in done(exp, "--format", "json", audio).splitlines()]
    assert [line["name"] for line in lines] == [str(audio / name) for name in NAMES]
    assert lines[0] == {"name": str(audio / "a.wav"), **found, "words": words}


NAMES = ("a.wav", "sub/b.flac", "sub/deep/c d.WAV")


def test_from_python(exp: Path, audio: Path) -> None:
    recognizer = slimasr.load(exp)
    found = recognizer.transcribe(audio / "a.wav", timestamps=True)
    assert found.text == recognizer.transcribe(audio / "a.wav") == done(exp, audio / "a.wav").strip()
    written = json.loads(done(exp, "--format", "json", audio / "a.wav"))
    assert json_fields(found, recognizer.experiment.tokenizer.tokens) == written


def test_ctm_and_subtitles_tell_the_same_words(exp: Path, audio: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in done(exp, "--format", "json", audio).splitlines()]
    (tmp_path / "all.ctm").write_text(done(exp, "--format", "ctm", audio))
    found = read_ctm(tmp_path / "all.ctm")
    assert list(found) == ["a", "sub/b", "sub/deep/c_d"]
    for entries, line in zip(found.values(), lines, strict=True):
        entries_in_order = [(entry.label, entry.start, entry.end) for entry in entries]
        assert entries_in_order == [
            (word["word"], word["start"], pytest.approx(word["end"], abs=1e-9)) for word in line["words"]
        ]
    confidences = [float(line.split()[5]) for line in (tmp_path / "all.ctm").read_text().splitlines()]
    assert confidences == [word["confidence"] for line in lines for word in line["words"]]
    cues = parse_srt(done(exp, "--format", "srt", audio / "a.wav"))
    assert parse_vtt(done(exp, "--format", "vtt", audio / "a.wav")) == cues
    assert "".join(word for _, _, shown in cues for word in shown).replace(" ", "") == lines[0]["text"].replace(" ", "")
    assert cues[0][0] == lines[0]["words"][0]["start"]


def test_long_audio_has_the_times_of_the_whole_and_any_number_of_processes(exp: Path, tmp_path: Path) -> None:
    rate = 8000
    parts = [part for seed in range(5) for part in (noise(0.9, seed, rate), np.zeros(rate // 2, np.float32))]
    soundfile.write(tmp_path / "long.wav", np.concatenate(parts), rate)
    soundfile.write(tmp_path / "short.wav", noise(0.5, seed=2), RATE)
    (tmp_path / "bad.wav").write_text("no audio")
    arguments = [
        "--format",
        "json",
        "--window-seconds",
        2,
        *(tmp_path / f"{name}.wav" for name in ("long", "bad", "short")),
    ]
    alone = call(exp, *arguments)
    assert alone.exit_code == 1 and "bad.wav: is not a readable audio file" in alone.stderr
    several = call(exp, "--num-jobs", 2, *arguments)
    assert several.stdout == alone.stdout
    # There may be lines of progress between these.
    assert [line for line in several.stderr.splitlines() if "error" in line] == alone.stderr.splitlines()
    found = json.loads(alone.stdout.splitlines()[0])
    assert found["seconds"] == 7.0
    times = [time for word in found["words"] for time in (word["start"], word["end"])]
    assert times == sorted(times) and found["times"] == sorted(found["times"]) and times[-1] <= 7.0
    # There are tokens in all parts.
    assert {int(time / 1.4) for time in found["times"]} == set(range(5))


def test_progress_counts_seconds_of_audio(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "a.wav", PurePath("a"))
    finished = Finished(recording, Transcript("A"))
    events = [Recognised(0.6), Recognised(0.6), Recognised(2.1), finished, Recognised(0.5), Recognised(0.7), finished]
    taken: list[Finished] = []
    ticks = [len(taken) for _ in _seconds(events, taken.append)]
    # 4.5 s have been recognised, three of them before the first recording was finished.
    assert ticks == [0, 0, 0, 1] and taken == [finished, finished]
    for name, seconds in (("a.wav", 1.5), ("b.flac", 2.25)):
        soundfile.write(tmp_path / name, noise(seconds, seed=1), RATE)
    found = [Recording(tmp_path / name, PurePath(name)) for name in ("a.wav", "b.flac", "none.wav")]
    assert total_seconds(found) == pytest.approx(3.75)
    # Nobody knows how long standard input lasts.
    assert total_seconds([*found, Recording(Path("-"), PurePath("stdin"))]) is None


def test_a_folder_for_the_files(exp: Path, audio: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    result = call(exp, "--out", out, "--format", "vtt", audio)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"3 transcripts in {out}\n")
    files = sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())
    assert files == ["a.vtt", "sub/b.vtt", "sub/deep/c d.vtt"]
    assert (out / "a.vtt").read_text() == done(exp, "--format", "vtt", audio / "a.wav")
    assert f"{out}/a.vtt and 2 others: exists already" in refused(exp, "--out", out, "--format", "vtt", audio)
    (out / "a.vtt").write_text("old")
    call(exp, "--out", out, "--format", "vtt", "--overwrite", audio)
    assert (out / "a.vtt").read_text().startswith("WEBVTT")
    # Other endings do not meet.
    call(exp, "--out", out, audio / "a.wav")
    assert (out / "a.txt").read_text() == done(exp, audio / "a.wav")


def test_a_list_counts_from_its_folder_and_bad_lines_are_named(exp: Path, audio: Path, tmp_path: Path) -> None:
    (audio / "list.txt").write_text("\ufeffa.wav\r\n\r\nsub/gone.wav\r\nsub\r\n")
    result = call(exp, "--list", audio / "list.txt", "--out", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"error: {audio}/list.txt:3: {audio}/sub/gone.wav: no such file",
        "error: 1 of 4 files could not be transcribed",
    ]
    assert (tmp_path / "sub" / "deep" / "c d.txt").is_file() and (tmp_path / "a.txt").is_file()
    (audio / "list.txt").write_text("\n")
    assert "list.txt: names no file; write a path in every line" in refused(exp, "--list", audio / "list.txt")
    assert "none.txt: No such file" in refused(exp, "--list", tmp_path / "none.txt")


def test_standard_input_is_one_of_the_recordings(exp: Path, audio: Path, tmp_path: Path) -> None:
    content = (audio / "a.wav").read_bytes()
    text = done(exp, audio / "a.wav")
    assert done(exp, "-", stdin=content) == text
    raw = soundfile.read(io.BytesIO(content), dtype="int16")[0].tobytes()
    assert done(exp, "-", "--raw", RATE, stdin=raw) == text
    call(exp, "-", "--out", tmp_path, stdin=content)
    assert (tmp_path / "stdin.txt").read_text() == text
    assert "standard input: is not a wav stream" in refused(exp, "-", stdin=b"ID3" + bytes(100))
    assert "standard input: is truncated" in refused(exp, "-", stdin=content[:-2])
    assert "standard input: holds no samples" in refused(exp, "-")
    assert "name - once" in refused(exp, "-", "-", stdin=content)


def test_what_does_not_go_together(exp: Path, audio: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    same = tmp_path / "a.flac"
    soundfile.write(same, noise(0.5, seed=1), RATE)
    for arguments, message in (
        ([empty], f"{empty}: is a folder without audio; names of audio end with .wav, "),
        (["--format", "srt", audio], "--format srt: a file has one recording; name a folder for the files by --out"),
        (
            ["--out", tmp_path / "o", audio / "a.wav", same],
            f"{audio}/a.wav and {same}: both transcripts would be named a.txt",
        ),
        (["--format", "ctm", audio / "a.wav", same], "both transcripts would be named a.ctm"),
        (["--out", same, audio / "a.wav"], "a.flac: is no folder; name another one by --out"),
        (["--out", same / "x", audio / "a.wav"], "cannot be written"),
        (["--overwrite", audio / "a.wav"], "--overwrite needs --out"),
        (["--stream", "--format", "vtt", audio / "a.wav"], "--format vtt is for whole recordings"),
    ):
        assert message in refused(exp, *arguments), arguments
    assert not (tmp_path / "o").exists()
