"""Encoders of streams through the commands: exported, checked in sherpa-onnx, and run by the program of the bundle."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from kaldialign import edit_distance
from typer.testing import CliRunner

from slimasr.cli import check, export
from slimasr.cli.common import command_app
from slimasr.data.files import DataFolder, read_cuts
from slimasr.experiment import Experiment
from slimasr.export.check.audio import file_audio, synthetic_audio
from slimasr.export.check.streams import StreamReference
from slimasr.export.device import Recognizer, open_bundle, read_wav
from slimasr.export.manifest import read_manifest
from slimasr.supernet.subnet import Subnet
from tests.cli.test_export import write_wer
from tests.decoding.made_up import RATE, config, write_data, write_experiment
from tests.decoding.streaming import MH_SSM, write_streaming
from tests.export.old_runtime import transcribed

HALF = Subnet(0.5)
CONTEXT = 4


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``exp/``, a supernet of state-space layers with an LSTM predictor, and ``bundle/`` of its narrow subnet."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra export is not installed")
    from tests.export.check.handmade import make_talkative

    root = tmp_path_factory.mktemp("streaming")
    exp = write_streaming(root, {**MH_SSM, "encoder": {**MH_SSM["encoder"], "num_layers": 1}})  # type: ignore[dict-item]
    make_talkative(exp, [HALF])
    words = [str(exp), "--out", str(root / "bundle"), "--subnet", "0.5", "--streaming", "--context", str(CONTEXT)]
    result = CliRunner().invoke(command_app(export.run), words)
    assert result.exit_code == 0, result.output
    return root


def test_sherpa_onnx_says_what_our_stream_says(place: Path) -> None:
    if importlib.util.find_spec("sherpa_onnx") is None:
        pytest.skip("sherpa-onnx is not installed")
    result = CliRunner().invoke(command_app(check.run), [str(place / "bundle"), "--exp", str(place / "exp")])
    assert result.exit_code == 0, result.output
    record = json.loads((place / "bundle" / "check.json").read_text(encoding="utf-8"))
    found = record["sizes"][HALF.id]["models"]["float, chunks of 320 ms"]["sets"]["synthetic"]
    assert found["identical"] == found["utterances"] == len(synthetic_audio(RATE))
    assert found["changed_tokens"] == 0 and found["tokens"] > 50


def test_the_program_of_the_bundle_says_what_our_stream_says(place: Path, tmp_path: Path) -> None:
    bundle = place / "bundle"
    note = read_manifest(bundle).streaming
    assert note is not None and note.carrier == "lstm"
    files = [tmp_path / f"{number}.wav" for number in range(2)]
    for file, heard in zip(files, synthetic_audio(RATE)[-2:], strict=True):
        soundfile.write(file, heard.samples, RATE, subtype="PCM_16")
    command = [sys.executable, str(bundle / "run.py"), "transcribe", "--stream", *map(str, files)]
    done = subprocess.run([*command, "--json", str(tmp_path / "found.json")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    experiment = Experiment.open(place / "exp")
    reference = StreamReference.of(experiment, HALF, note, CONTEXT, 1)
    expected = reference.recognize(file_audio(files, RATE))["greedy_search"]
    assert [" ".join(one["text"].split()) for one in found] == [one.text for one in expected]
    assert all(len(one.ids) > 10 for one in expected)


def test_a_stream_in_an_old_runtime_says_the_same(place: Path, tmp_path: Path) -> None:
    wav = tmp_path / "a.wav"
    soundfile.write(wav, synthetic_audio(RATE)[-1].samples, RATE, subtype="PCM_16")
    (found,) = transcribed(place / "bundle", wav, "--stream")
    present = Recognizer(open_bundle(place / "bundle")).transcribe(read_wav(wav, RATE))
    assert (found["text"], tuple(found["frames"])) == (present.text, present.frames)
    assert len(present.tokens) > 50


def test_int8_of_a_stream_is_measured_chunk_by_chunk(place: Path, tmp_path: Path) -> None:
    exp = Path(shutil.copytree(place / "exp", tmp_path / "exp"))
    words = [
        str(exp),
        "--subnet",
        "0.5",
        "--streaming",
        "--context",
        str(CONTEXT),
        "--int8",
        "--data",
        str(place / "data"),
    ]
    write_wer(exp, 1000.0)
    result = CliRunner().invoke(command_app(export.run), [*words, "--out", str(tmp_path / "a")])
    assert result.exit_code == 0, result.output
    int8 = read_manifest(tmp_path / "a").sizes[0].int8
    assert int8 is not None and int8.wer is not None
    recognizer = Recognizer(open_bundle(tmp_path / "a"), int8=True)
    errors = total = 0
    for cut in read_cuts(DataFolder(place / "data").raw_cuts("dev"), ""):
        said = cut.supervisions[0].text.split()
        found = recognizer.transcribe(read_wav(Path(cut.recording.sources[0].source), RATE)).text.split()
        errors += edit_distance(said, found)["total"]
        total += len(said)
    # The export reads stored features, which are rounded.
    assert int8.wer["dev"] == pytest.approx(100 * errors / total, rel=0.05) and errors > 0
    write_wer(exp, 0.0)
    result = CliRunner().invoke(command_app(export.run), [*words, "--out", str(tmp_path / "b")])
    assert result.exit_code == 0, result.output
    assert "its int8 file is left out (--force writes it)" in result.output
    assert read_manifest(tmp_path / "b").sizes[0].int8 is None and not list((tmp_path / "b").glob("*int8*"))


def test_an_encoder_of_whole_utterances_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    recipe = config()
    exp = write_experiment(tmp_path, recipe, write_data(tmp_path, recipe))
    words = [str(exp), "--out", str(tmp_path / "bundle"), "--subnet", "max", "--streaming"]
    result = CliRunner().invoke(command_app(export.run), words)
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1
    assert "needs whole utterances; to stream, train kind mh_ssm" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"audio", "data", "exp"}


def test_a_decoder_that_sees_no_label_is_refused(tmp_path: Path) -> None:
    words = [str(tmp_path / "exp"), "--out", str(tmp_path / "bundle"), "--context", "0"]
    result = CliRunner().invoke(command_app(export.run), words)
    assert result.exit_code == 2
    # Behind the hint how to call the command.
    line = result.stderr.splitlines()[-1]
    assert line == "Error: Invalid value for '--context': Input should be greater than or equal to 1"
