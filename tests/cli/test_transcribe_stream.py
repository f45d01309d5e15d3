"""``slimasr-transcribe --stream``: files, standard input, a microphone; what it prints, and how it ends."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import Result
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from slimasr.cli.live import show
from slimasr.cli.transcribe import run
from slimasr.data.audio.file import AudioError
from slimasr.data.audio.wav_stream import read_samples, read_wav_header
from slimasr.decoding.streaming.stream import StreamResult
from slimasr.experiment import Experiment
from tests.decoding.made_up import RATE, config, noise, write_data, write_experiment
from tests.decoding.streaming import EMFORMER, whole, write_streaming

SAMPLES = noise(2.0, seed=3)
STORED = np.round(32767 * SAMPLES).astype("<i2")
"""What a file of 16-bit samples holds of them."""


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_streaming(tmp_path_factory.mktemp("streaming"), EMFORMER)


@pytest.fixture(scope="module")
def expected(exp: Path) -> StreamResult:
    found = whole(Experiment.open(exp), STORED / np.float32(32768))
    assert len(found.tokens) > 5
    return found


def call(exp: Path, *arguments: object, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(command_app(run), [str(exp), "--stream", *map(str, arguments)], input=stdin)


def wav(samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    return file.getvalue()


def test_a_file_has_the_text_of_the_whole(exp: Path, expected: StreamResult, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", STORED, RATE)
    result = call(exp, tmp_path / "a.wav")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{expected.text}\n"
    assert result.stderr.startswith("stream: 2.0 s of audio, RTF 0.")
    assert "computing per chunk of 160 ms: p50 " in result.stderr and "lag" not in result.stderr
    small = call(exp, "--subnet", "0.5", tmp_path / "a.wav").stdout
    by_width = call(exp, "--width", 0.5, tmp_path / "a.wav").stdout
    assert small == by_width == whole(Experiment.open(exp), STORED / np.float32(32768), subnet=half(exp)).text + "\n"


def half(exp: Path) -> Any:
    return Experiment.open(exp).space.parse("0.5")


def test_standard_input(exp: Path, expected: StreamResult) -> None:
    for arguments, content in (
        (["-"], wav(STORED)),
        (["-", "--raw", RATE], STORED.tobytes()),
        # The last byte is half a sample.
        (["--raw", RATE, "-"], STORED.tobytes() + b"\x01"),
    ):
        result = call(exp, *arguments, stdin=content)
        assert result.stdout == f"{expected.text}\n", result.stderr
        assert "largest lag" in result.stderr
    for content, message in (
        (b"", "standard input: holds no samples"),
        (wav(STORED)[:44], "standard input: holds no samples"),
        (wav(STORED)[:30], "ends within the header"),
        (b"ID3" + bytes(100), "is not a wav stream; for headerless 16-bit mono samples, give their rate by --raw"),
        (
            wav(np.array([0.1, np.nan], np.float32), subtype="FLOAT"),
            "standard input: holds samples that are not finite",
        ),
        (wav(0.1 * SAMPLES, subtype="ULAW"), "wav of encoding 7 with 8 bits"),
        (wav(STORED[:100], 999), "standard input: has a sampling rate of 999 Hz, needs one from 1000 to 768000"),
        (wav(STORED[:100], 9999991), "standard input: has a sampling rate of 9999991 Hz"),
        (wav(STORED)[:-2], f"standard input: is truncated: {len(STORED) - 1} of {len(STORED)} samples have arrived"),
    ):
        result = call(exp, "-", stdin=content)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.count("\n") == 1 and message in result.stderr
    for content, message in (
        (b"\x01", "holds no samples"),
        (wav(STORED), "is wav, whose header says its sampling rate"),
    ):
        assert message in call(exp, "--raw", 8000, "-", stdin=content).stderr
    assert call(exp, "--raw", 999, "-", stdin=STORED.tobytes()).exit_code == 2


def test_a_standard_input_that_is_closed(exp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As Python has it after `<&-`.
    monkeypatch.setattr("slimasr.cli.wanted.sys", SimpleNamespace(stdin=None))
    result = call(exp, "-")
    assert result.exit_code == 1 and "standard input is closed" in result.stderr


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_wav_from_a_pipe_equals_the_file(subtype: str) -> None:
    stereo = np.stack([noise(0.2, seed=1), noise(0.2, seed=2)], axis=1)
    content = wav(stereo, 8000, subtype)
    want, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    pipe = io.BytesIO(content)
    form = read_wav_header(pipe.read, "pipe")
    assert (form.sampling_rate, form.num_channels) == (8000, 2)
    # A pipe returns any number of bytes, which may end within a sample.
    rng = np.random.default_rng(0)
    parts = list(read_samples(lambda n: pipe.read(int(rng.integers(1, n + 1))), form, 50))
    np.testing.assert_allclose(np.concatenate(parts), want.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("length", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_headers_of_programs_that_write_to_a_pipe(length: int) -> None:
    content = bytearray(wav(STORED[:100]))
    place = content.index(b"data")
    content[place + 4 : place + 8] = struct.pack("<I", length)
    pipe = io.BytesIO(bytes(content))
    form = read_wav_header(pipe.read, "pipe")
    assert sum(len(part) for part in read_samples(pipe.read, form, 30)) == 100


def test_what_follows_the_samples_of_a_wav_is_no_audio() -> None:
    pipe = io.BytesIO(wav(STORED[:100]) + b"LIST" + struct.pack("<I", 50) + bytes(50))
    form = read_wav_header(pipe.read, "pipe")
    assert sum(len(part) for part in read_samples(pipe.read, form, 30)) == 100
    with pytest.raises(AudioError, match="does not say how its samples are stored"):
        read_wav_header(io.BytesIO(b"RIFF\0\0\0\0WAVEdata\0\0\0\0").read, "pipe")


def test_json_has_every_change_and_times(exp: Path, expected: StreamResult, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", STORED, RATE)
    lines = [json.loads(line) for line in call(exp, "--format", "json", tmp_path / "a.wav").stdout.splitlines()]
    tokens = Experiment.open(exp).tokenizer.tokens
    assert lines[-1] == {
        "seconds": 2.0,
        "text": expected.text,
        "final": True,
        "tokens": [tokens[token] for token in expected.tokens],
        "times": list(expected.times),
    }
    assert len(lines) > 3 and not any(line["final"] for line in lines[:-1])
    for line in lines[:-1]:
        assert expected.text.startswith(line["text"])
        # A segment and its look-ahead have arrived, whose first frames these are.
        assert all(time < line["seconds"] for time in line["times"])
    # Several files are told apart.
    two = call(exp, "--format", "json", tmp_path / "a.wav", tmp_path / "a.wav").stdout.splitlines()
    assert {json.loads(line)["name"] for line in two} == {str(tmp_path / "a.wav")}
    partials = call(exp, "--partials", tmp_path / "a.wav").stdout.splitlines()
    assert partials == [line["text"] for line in lines]


def test_several_files_and_bad_ones(exp: Path, expected: StreamResult, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", STORED, RATE)
    soundfile.write(tmp_path / "short.wav", STORED[:5], RATE)
    paths = [tmp_path / name for name in ("a.wav", "absent.wav", "short.wav")]
    result = call(exp, *paths)
    assert result.exit_code == 1
    assert result.stdout == f"{paths[0]}: {expected.text}\n{paths[2]}: \n"
    lines = result.stderr.splitlines()
    assert "absent.wav: no such file" in lines[0] and lines[-1] == "error: 1 of 3 files could not be transcribed"
    alone = call(exp, paths[1])
    assert (alone.exit_code, alone.stdout, alone.stderr.count("\n")) == (1, "", 1)


def test_options_that_do_not_fit(exp: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", STORED, RATE)
    file = tmp_path / "a.wav"
    for arguments, message in (
        ([], "name audio files, - for standard input, or --microphone"),
        (["--window-seconds", 3, file], "--stream cuts no audio"),
        (["--raw", 8000, file], "name - as AUDIO"),
        (["-", "-"], "name - once"),
        (["--microphone", "x", "-"], "--microphone is the only input"),
        (["--subnet", "l3", file], "subnet 'l3' is not in the search space"),
        (["--format", "srt", file], "--format srt is for whole recordings"),
        (["--out", tmp_path / "out", file], "--out is for whole recordings"),
        (["--list", file, file], "--list is for whole recordings"),
        (["--num-jobs", 2, file], "--num-jobs is for whole recordings"),
    ):
        result = call(exp, *arguments)
        assert result.exit_code == 1 and message in result.stderr, (arguments, result.stderr)
    for option in (["--raw", "8000"], ["--microphone"], ["--partials"], ["--realtime"]):
        whole_files = CliRunner().invoke(command_app(run), [str(exp), str(file), *option])
        assert whole_files.exit_code == 1 and f"{option[0]} needs --stream" in whole_files.stderr
    assert CliRunner().invoke(command_app(run), [str(exp)]).exit_code == 2


def test_an_encoder_that_does_not_stream_names_those_that_do(tmp_path: Path) -> None:
    recipe = config()
    conformer = write_experiment(tmp_path, recipe, write_data(tmp_path, recipe))
    result = call(conformer, "-")
    assert result.exit_code == 1
    assert "kind conformer needs whole utterances" in result.stderr and "kind emformer" in result.stderr


def test_realtime_takes_the_time_of_the_audio(
    exp: Path, expected: StreamResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    # Time does not pass while computing here, so that the sum of all pauses is the length of the audio.
    monkeypatch.setattr(
        "slimasr.decoding.streaming.sources.time", SimpleNamespace(perf_counter=lambda: sum(slept), sleep=slept.append)
    )
    soundfile.write(tmp_path / "a.wav", STORED, RATE)
    result = call(exp, "--realtime", tmp_path / "a.wav")
    assert result.stdout == f"{expected.text}\n"
    assert sum(slept) == pytest.approx(2.0) and max(slept) == pytest.approx(0.16)
    assert "largest lag" in result.stderr


class FakeSounddevice(ModuleType):
    """Plays samples to the callback of an input stream, and then lets the user press Ctrl-C."""

    class PortAudioError(Exception):
        """As in the library."""

    def __init__(self, samples: np.ndarray, rates: tuple[int, ...]) -> None:
        super().__init__("sounddevice")
        self.samples = samples
        self.rates = rates
        self.devices = [{"name": "Desk Mic", "max_input_channels": 1, "default_samplerate": float(rates[0])}]
        self.opened: dict[str, Any] = {}

    def query_devices(self, device: int | str | None = None, kind: str | None = None) -> Any:
        if kind is None:
            return [*self.devices, {"name": "Speaker", "max_input_channels": 0}]
        if device not in (None, 0) and not any(str(device) in found["name"] for found in self.devices):
            raise ValueError(f"No input device matching {device!r}")
        if not self.devices:
            raise self.PortAudioError("Error querying device -1")
        return self.devices[0]

    def check_input_settings(self, device: Any, channels: int, dtype: str, samplerate: int) -> None:
        if samplerate not in self.rates:
            raise self.PortAudioError("Invalid sample rate")

    def InputStream(self, callback: Any, blocksize: int, **settings: Any) -> Any:
        self.opened = settings
        test = self

        class Running:
            def __enter__(self) -> None:
                buffer = np.zeros((blocksize, 1), np.float32)
                for start in range(0, len(test.samples), blocksize):
                    piece = test.samples[start : start + blocksize]
                    # The library writes every block into the same memory.
                    buffer[: len(piece), 0] = piece
                    callback(buffer[: len(piece)], len(piece), None, None)
                signal.raise_signal(signal.SIGINT)

            def __exit__(self, *_: object) -> None:
                pass

        return Running()


@pytest.mark.parametrize("rates", [(44100, RATE), (8000,)])
def test_a_microphone_until_ctrl_c(exp: Path, rates: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    rate = RATE if RATE in rates else rates[0]
    samples = noise(1.2, seed=7, rate=rate)
    library = FakeSounddevice(samples, rates)
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    handler = signal.getsignal(signal.SIGINT)
    for named in (["--microphone"], ["--microphone", "Desk"], ["--microphone", "0"]):
        result = call(exp, *named)
        assert result.exit_code == 0, result.stderr
        assert result.stdout == whole(Experiment.open(exp), samples, rate).text + "\n"
    assert library.opened["samplerate"] == rate and library.opened["channels"] == 1
    assert signal.getsignal(signal.SIGINT) is handler
    absent = call(exp, "--microphone", "Headset")
    assert absent.exit_code == 1 and "no input device 'Headset'; there are: Desk Mic" in absent.stderr
    library.devices = []
    assert "this machine has no input device" in call(exp, "--microphone").stderr


def test_a_microphone_without_its_library(exp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    result = call(exp, "--microphone")
    assert result.exit_code == 1 and "pip install 'slimasr[microphone]'" in result.stderr


def test_a_terminal_shows_the_text_in_place(exp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    written.isatty = lambda: True  # type: ignore[method-assign]
    written.fileno = lambda: 0  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdout", written)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((11, 24)))
    results = [
        StreamResult(1.0, "ONE", (5,), (0.1,)),
        StreamResult(2.0, "ONE", (5,), (0.1,)),
        StreamResult(3.0, "ONE TWO THREE", (5, 6), (0.1, 0.2)),
        StreamResult(3.5, "ONE TWO FOUR", (5, 7), (0.1, 0.2), final=True),
    ]
    show(results, "text", False, None, Experiment.open(exp).tokenizer)
    monkeypatch.undo()
    first, second, last = written.getvalue().split("\r\x1b[K")[1:]
    assert first == "ONE" and last == "ONE TWO FOUR\n"
    # The line has room for ten columns, beside that of the cursor.
    assert "ONE TWO THREE".endswith(second) and 5 < len(second) <= 10


def command(exp: Path, *arguments: object) -> subprocess.Popen[bytes]:
    code = "from slimasr.cli.transcribe import main; main()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(exp), "--stream", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )


def test_ctrl_c_ends_a_stream_from_a_pipe(exp: Path, expected: StreamResult) -> None:
    process = command(exp, "--raw", RATE, "--format", "json", "-")
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(STORED.tobytes())
    process.stdin.flush()
    # The pipe stays open, so that only the signal can end the stream. All audio but the last segment is recognised.
    known: dict[str, Any] = {"seconds": 0.0}
    while known["seconds"] < 1.5:
        known = json.loads(process.stdout.readline())
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    last = process.stdout.read().splitlines()[-1]
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    assert json.loads(last)["final"] and json.loads(last)["text"] == expected.text


def test_a_reader_that_goes_away_ends_it_quietly(exp: Path) -> None:
    process = command(exp, "--raw", RATE, "--partials", "-")
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdin.write(STORED.tobytes())
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.close()
    # More speech, whose text nobody reads; the command may end before it has taken all of it.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(STORED.tobytes() * 3)
        process.stdin.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 0
