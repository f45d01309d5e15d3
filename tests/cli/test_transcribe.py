"""Text of audio files, against features and search run by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import Result
from lhotse import Fbank, FbankConfig
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from slimasr.cli.transcribe import run
from slimasr.decoding.searches.greedy import greedy_search
from slimasr.decoding.transcription.audio import read_pieces
from slimasr.decoding.transcription.transcribe import transcribe, transcribe_each
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from tests.decoding.made_up import RATE, config, noise, write_data, write_experiment


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("transcribe")
    return write_experiment(root, config(), write_data(root, config()))


def call(exp: Path, *arguments: object) -> Result:
    return CliRunner().invoke(command_app(run), [str(exp), *map(str, arguments)])


@torch.no_grad()
def by_hand(exp: Path, samples: np.ndarray, width: str) -> str:
    experiment = Experiment.open(exp)
    subnet, model = experiment.space.parse(width), experiment.model
    features = torch.from_numpy(Fbank(FbankConfig(sampling_rate=RATE)).extract(samples, RATE))
    encoder = model.encode(features.unsqueeze(0), torch.tensor([len(features)]), subnet)
    (tokens,) = greedy_search(model, model.project_encoder(encoder.out, subnet), encoder.lens)
    return experiment.tokenizer.decode(tokens).strip()


@pytest.mark.parametrize("width", ["0.5", "1.0"])
def test_text_of_one_file(exp: Path, tmp_path: Path, width: str) -> None:
    samples = noise(2.0, seed=3)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    expected = by_hand(exp, samples, width)
    assert len(expected) > 3
    for named in (["--width", width], ["--subnet", width]):
        result = call(exp, *named, tmp_path / "a.wav")
        assert result.exit_code == 0, result.output
        assert result.stdout == f"{expected}\n"


def test_the_largest_subnet_is_the_default(exp: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(2.0, seed=3), RATE, subtype="FLOAT")
    assert call(exp, tmp_path / "a.wav").stdout == call(exp, "--width", 1, tmp_path / "a.wav").stdout


def test_several_files_of_several_kinds(exp: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", noise(0.5, seed=1), RATE)
    soundfile.write(tmp_path / "b.wav", np.stack([noise(0.6, seed=2, rate=8000)] * 2, axis=1), 8000)
    soundfile.write(tmp_path / "c.ogg", noise(0.7, seed=3, rate=44100), 44100)
    soundfile.write(tmp_path / "d.wav", np.zeros(5), RATE)
    files = [tmp_path / name for name in ("a.flac", "b.wav", "c.ogg", "d.wav")]
    result = call(exp, "--width", 0.5, *files)
    assert result.exit_code == 0, result.output
    assert [line.split(": ")[0] for line in result.stdout.splitlines()] == [str(file) for file in files]


def test_long_audio_is_the_texts_of_its_pieces(exp: Path, tmp_path: Path) -> None:
    pause = np.zeros(RATE // 2, np.float32)
    speech = np.concatenate([part for seed in range(4) for part in (noise(1.6, seed), pause)])
    soundfile.write(tmp_path / "long.wav", speech, RATE, subtype="FLOAT")
    # Pieces start with an encoder frame, which has four feature frames.
    pieces = read_pieces(tmp_path / "long.wav", RATE, 3.0, step_seconds=0.04)
    texts = [by_hand(exp, piece, "1.0") for piece in pieces]
    assert len([text for text in texts if text]) >= 4
    result = call(exp, "--width", 1, "--window-seconds", 3, tmp_path / "long.wav")
    assert result.exit_code == 0, result.output
    assert result.stdout == " ".join(text for text in texts if text) + "\n"
    assert call(exp, "--width", 1, tmp_path / "long.wav").stdout == by_hand(exp, speech, "1.0") + "\n"


def test_from_python(exp: Path, tmp_path: Path) -> None:
    experiment = Experiment.open(exp)
    paths = [tmp_path / "a.wav", str(tmp_path / "b.wav")]
    for seed, path in enumerate(paths):
        soundfile.write(path, noise(1.0, seed=seed), RATE, subtype="FLOAT")
    texts = transcribe(experiment, paths, experiment.space.parse("0.5"))
    assert [next(texts), next(texts)] == [by_hand(exp, noise(1.0, seed=seed), "0.5") for seed in (0, 1)]


def test_wrong_requests(exp: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_text("no audio")
    soundfile.write(tmp_path / "good.wav", noise(0.5, seed=0), RATE)
    for arguments, message in (
        (["--width", 0.3, tmp_path / "good.wav"], "subnet '0.3' is not in the search space"),
        (["--width", 1, "--subnet", "max", tmp_path / "good.wav"], "not by both"),
        ([tmp_path / "bad.wav"], "bad.wav: is not a readable audio file"),
        ([tmp_path / "none.wav"], "none.wav: no such file"),
    ):
        result = call(exp, *arguments)
        assert result.exit_code == 1
        assert result.stderr.count("\n") == 1
        assert message in result.stderr
    assert "good.wav: " in call(exp, tmp_path / "good.wav", tmp_path / "bad.wav").stdout
    missing = call(tmp_path / "nothing", tmp_path / "good.wav")
    assert missing.exit_code == 1
    assert "run stage 4 (slimasr-train) first" in missing.stderr


def test_all_files_are_tried_and_the_bad_ones_counted(exp: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(("a.wav", "b.wav")):
        soundfile.write(tmp_path / name, noise(0.5, seed=seed), RATE)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nothing.wav").touch()
    soundfile.write(tmp_path / "loud.wav", 32768 * noise(0.5, seed=0), RATE, subtype="FLOAT")
    (tmp_path / "cut.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-5000])
    bad = {
        "folder": "is a folder",
        "pipe": "is not a regular file",
        "nothing.wav": "is empty",
        "loud.wav": "divide its samples by 32768",
        "cut.wav": "is truncated",
        "absent.wav": "no such file",
    }
    paths = [tmp_path / name for name in ("a.wav", *bad, "b.wav", "a.wav")]
    result = call(exp, *paths)
    assert result.exit_code == 1
    alone = {name: call(exp, tmp_path / name).stdout for name in ("a.wav", "b.wav")}
    assert result.stdout == "".join(f"{tmp_path / name}: {alone[name]}" for name in ("a.wav", "b.wav", "a.wav"))
    *lines, last = result.stderr.splitlines()
    assert len(lines) == len(bad)
    for line, (name, reason) in zip(lines, bad.items(), strict=True):
        assert line.startswith(f"error: {tmp_path / name}: ")
        assert reason in line
    assert last == "error: 6 of 9 files could not be transcribed"


def test_no_file_can_be_read(exp: Path, tmp_path: Path) -> None:
    result = call(exp, tmp_path / "a.wav", tmp_path / "b.wav")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == "error: 2 of 2 files could not be transcribed"


def test_a_file_that_breaks_off_while_it_is_recognised(exp: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", noise(6.0, seed=0), RATE)
    soundfile.write(tmp_path / "b.wav", noise(0.5, seed=0), RATE)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[len(content) * 3 // 4 :] = bytes(len(content) - len(content) * 3 // 4)
    (tmp_path / "a.flac").write_bytes(content)
    result = call(exp, "--window-seconds", 1, tmp_path / "a.flac", tmp_path / "b.wav")
    assert result.exit_code == 1
    assert [line.partition(": ")[0] for line in result.stdout.splitlines()] == [str(tmp_path / "b.wav")]
    assert "a.flac: cannot be decoded after " in result.stderr


def test_each_text_is_written_before_the_next_file_is_read(exp: Path, tmp_path: Path) -> None:
    experiment = Experiment.open(exp)
    soundfile.write(tmp_path / "a.wav", noise(0.5, seed=0), RATE)
    results = transcribe_each(experiment, [tmp_path / "a.wav", tmp_path / "late.wav", tmp_path / "b.wav"])
    first = next(results)
    (tmp_path / "a.wav").rename(tmp_path / "late.wav")
    assert next(results) == first
    error = next(results)
    assert isinstance(error, UserError)
    assert "b.wav: no such file" in str(error)
    texts = transcribe(experiment, [tmp_path / "late.wav", tmp_path / "b.wav", tmp_path / "late.wav"])
    assert next(texts) == first
    with pytest.raises(UserError, match=r"b\.wav: no such file"):
        next(texts)


@pytest.mark.parametrize("name", [b"caf\xe9.wav", b"two\nlines.wav", b"  two  blanks.wav", b"\xe2\x80\xa8.wav"])
def test_any_file_name_is_printed_on_one_line(exp: Path, tmp_path: Path, name: bytes) -> None:
    soundfile.write(tmp_path / "a.wav", noise(0.5, seed=0), RATE)
    path = os.fsencode(tmp_path) + b"/" + name
    os.symlink(tmp_path / "a.wav", path)
    code = "from slimasr.cli.transcribe import main; main()"
    command = [sys.executable, "-c", code, str(exp), path, path + b".gone", path]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, env=environment)
    assert result.returncode == 1, result.stderr
    shown = path.replace(b"\n", b"\\n")
    lines = result.stdout.split(b"\n")
    assert [line.rpartition(b": ")[0] for line in lines] == [shown, shown, b""]
    assert b"Traceback" not in result.stderr
    assert result.stderr.count(b"\n") == 2
