"""What the program of a bundle says of damaged files, wrong words and other mistakes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from slimasr.export.device import BundleError, Recognizer, open_bundle, read_wav, verify

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.export.tiny_bundle import (  # noqa: E402
    PROGRAM,
    RATE,
    TOKENS,
    change_manifest,
    encoder_weight,
    make_bundle,
    noise,
    record,
    run,
    write_wav,
)
from tests.tiny import MODEL  # noqa: E402


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("device") / "bundle")


@pytest.fixture
def own(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, which a test may change."""
    return Path(shutil.copytree(bundle, tmp_path / "own"))


# What it is made of


def test_a_sound_bundle_passes(bundle: Path, tmp_path: Path) -> None:
    for folder in (bundle, make_bundle(tmp_path / "c", "ctc"), make_bundle(tmp_path / "s", carrier="conformer")):
        assert verify(folder) == []
    done = run("verify", "--bundle", bundle)
    assert done.returncode == 0 and "as they were written" in done.stdout


# Bad input


def strip_metadata(folder: Path) -> None:
    model = onnx.load(folder / "decoder.onnx")
    del model.metadata_props[:]
    (folder / "decoder.onnx").write_bytes(model.SerializeToString())


def make_newer(folder: Path) -> None:
    model = onnx.load(folder / "joiner.onnx")
    model.ir_version = 99
    (folder / "joiner.onnx").write_bytes(model.SerializeToString())


def swap(folder: Path) -> None:
    content = (folder / "joiner.onnx").read_bytes()
    (folder / "joiner.onnx").write_bytes((folder / "decoder.onnx").read_bytes())
    (folder / "decoder.onnx").write_bytes(content)


def alter_weights(folder: Path) -> None:
    content = bytearray((folder / "weights.bin").read_bytes())
    content[40] ^= 1
    (folder / "weights.bin").write_bytes(content)


def shorten_tokens(folder: Path) -> None:
    rows = (folder / "tokens.txt").read_text(encoding="utf-8").splitlines()
    (folder / "tokens.txt").write_text("\n".join(rows[:-1]) + "\n", encoding="utf-8")


def renumber_tokens(folder: Path) -> None:
    rows = "".join(f"{token} {number + 1}\n" for number, token in enumerate(TOKENS))
    (folder / "tokens.txt").write_text(rows, encoding="utf-8")


def spoil_weights(folder: Path) -> None:
    weight = np.full_like(encoder_weight(MODEL.joiner.dim), np.nan)
    (folder / "weights.bin").write_bytes(weight.tobytes())


DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "weights are altered": (alter_weights, "", "weights.bin is another file, of"),
    "weights are cut": (
        lambda f: (f / "weights.bin").write_bytes(b"abc"),
        "",
        "weights.bin is another file, of 3 bytes",
    ),
    "weights are absent": (lambda f: (f / "weights.int8.bin").unlink(), "", "weights.int8.bin is missing"),
    "files are swapped": (swap, "", "decoder.onnx is another file"),
    "tokens are short": (shorten_tokens, "tokens.txt", "tokens.txt has not one line for each id below 9"),
    "tokens have other ids": (renumber_tokens, "tokens.txt", "tokens.txt has not one line for each id below 9"),
    "metadata are gone": (strip_metadata, "decoder.onnx", "decoder.onnx: vocab_size is None instead of 9"),
    "the file is too new": (make_newer, "joiner.onnx", "upgrade onnxruntime"),
    "swapped at export": (swap, "joiner.onnx decoder.onnx", "decoder.onnx does not run"),
    "weights are no numbers": (spoil_weights, "weights.bin", "finite scores is 0 instead of 9"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_named(own: Path, name: str) -> None:
    damage, recorded, message = DAMAGE[name]
    damage(own)
    # As an exporter would have recorded the damaged files, whose checksums then fit
    if recorded:
        record(own, recorded.split())
    problems = verify(own)
    assert any(message in problem for problem in problems), problems
    assert all("\n" not in problem for problem in problems)
    done = run("verify", "--bundle", own)
    assert done.returncode == 1 and message in done.stdout + done.stderr


def test_two_wrong_files_are_both_named(own: Path) -> None:
    alter_weights(own)
    (own / "joiner.onnx").unlink()
    assert len(verify(own)) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "is newer than this program: use the run.py that came with it"),
        ({"format": "other"}, "manifest.json cannot be used"),
        ({"sizes": []}, "manifest.json cannot be used"),
    ],
)
def test_a_manifest_that_it_does_not_know_is_an_error(own: Path, change: dict[str, object], message: str) -> None:
    change_manifest(own, **change)
    done = run("transcribe", "--bundle", own, "a.wav")
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert verify(own) == [done.stderr.strip().removeprefix("run.py: ")]


def test_another_bundles_weights_are_noticed_before_they_run(own: Path) -> None:
    (own / "weights.bin").write_bytes(b"0" * 1000)
    with pytest.raises(BundleError, match="weights.bin is another file, of 1000 bytes"):
        Recognizer(open_bundle(own))
    Recognizer(open_bundle(own), int8=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "w0.3"], "has no size w0.3: name one of w1, w0.5"),
        (["absent.wav"], "absent.wav is no WAV file of integers at 8000 Hz (FileNotFoundError"),
        (["--bundle", "absent"], "absent/manifest.json cannot be used (FileNotFoundError"),
    ],
)
def test_wrong_words_are_one_line(bundle: Path, words: list[str], message: str) -> None:
    done = run("transcribe", "--bundle", bundle, *words)
    assert done.returncode == 1 and message in done.stderr and len(done.stderr.splitlines()) == 1


def wav_header(path: Path) -> None:
    write_wav(path)
    path.write_bytes(path.read_bytes()[:1000])


WAVES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "EOFError"),
    "no wav": (lambda path: path.write_text("words" * 20), "does not start with RIFF"),
    "another rate": (lambda path: write_wav(path, rate=16000), "it has 16000 Hz"),
    "no samples": (lambda path: write_wav(path, 0.0), "it holds no samples"),
    "truncated": (wav_header, "it is truncated"),
    "floats": (lambda path: soundfile.write(path, noise(1.0), RATE, subtype="FLOAT"), "unknown format: 3"),
}


@pytest.mark.parametrize("name", WAVES)
def test_a_wrong_recording_is_named_with_a_remedy(tmp_path: Path, name: str) -> None:
    write, message = WAVES[name]
    write(tmp_path / "a.wav")
    with pytest.raises(BundleError) as error:
        read_wav(tmp_path / "a.wav", RATE)
    assert message in str(error.value) and "a.wav" in str(error.value) and "ffmpeg -i FILE -ar 8000" in str(error.value)


def test_the_profile_of_another_bundle_is_refused(own: Path, tmp_path: Path) -> None:
    row = {"size": "w1", "precision": "float", "threads": 1, "rtf": 0.1, "bytes": 5, "peak_mb": None, "encoder_ms": 1.0}
    path = tmp_path / "phone.json"
    start = {"format": "slimasr-profile", "version": 1, "rows": [row]}
    path.write_text(json.dumps({**start, "model": {"architecture": "other"}}), encoding="utf-8")
    done = run("choose", "--bundle", own, "--profile", path)
    assert done.returncode == 1 and "phone.json is that of another bundle" in done.stderr
    path.write_text(json.dumps({**start, "model": {"architecture": "cd" * 32}}), encoding="utf-8")
    done = run("choose", "--bundle", own, "--profile", path, "--threads", "2")
    assert done.returncode == 1 and "phone.json lacks these threads and sizes" in done.stderr


def test_a_size_that_fails_to_be_measured_is_named(own: Path) -> None:
    make_newer(own)
    record(own, ["joiner.onnx"])
    done = run("profile", "--bundle", own, "--repeats", 1)
    assert done.returncode == 1 and "w1 in float: run.py: " in done.stderr and "upgrade onnxruntime" in done.stderr


def test_onnxruntime_that_is_absent_is_named(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ModuleNotFoundError('gone', name='onnxruntime')", encoding="utf-8")
    shutil.copy(PROGRAM, tmp_path / "run.py")
    command = [sys.executable, str(tmp_path / "run.py"), "transcribe", "--bundle", str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "python -m pip install onnxruntime" in done.stderr
