"""What the program of a bundle says of wrong words, recordings that it cannot read, and profiles that do not fit."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from slimasr.export import device
from slimasr.export.device import Recognizer, open_bundle
from tests.export.conftest import Says

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.export.tiny_bundle import (
    CHUNK,
    PROGRAM,
    RATE,
    change_manifest,
    make_bundle,
    noise,
    run,
    write_wav,
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["transcribe"], "transcribe needs recordings"),
        (["profile", "--repeats", "0"], "--threads and --repeats numbers above 0"),
        (["profile", "--threads", "1,0"], "--threads and --repeats numbers above 0"),
        (["verify", "a.wav"], "verify does not use recordings: leave it out"),
        (["verify", "--threads", "2"], "verify does not use --threads: leave it out"),
        (["profile", "--size", "nosuch"], "profile does not use --size"),
        (["profile", "--int8"], "profile does not use --int8"),
        (["profile", "--max-rtf", "0.1"], "profile does not use --max-rtf"),
        (["choose", "--stream"], "choose does not use --stream"),
        (["choose", "a.wav", "--profile", "phone.json"], "--profile none"),
        (["transcribe", "a.wav", "--set", "test"], "transcribe does not use --set"),
        (["transcribe", "a.wav", "--repeats", "9"], "transcribe does not use --repeats"),
    ],
)
def test_words_that_would_do_nothing_are_refused(bundle: Path, says: Says, words: list[str], message: str) -> None:
    status, text = says(*words, "--bundle", bundle)
    assert status == 2 and message in text


def test_letters_that_a_terminal_lacks_are_no_error(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    copied = Path(shutil.copytree(own, own.parent / "B\u00fcndel mit Platz"))
    done = run("verify", "--bundle", copied)
    assert done.returncode == 0 and "B\\xfcndel mit Platz: all files are as written" in done.stdout


def test_integers_have_64_bits_where_those_of_numpy_have_32(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Recognizer(open_bundle(bundle)).transcribe(noise(1.0))

    class Narrow:
        """numpy as it is on 32-bit processors, and was on Windows before version 2."""

        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

        def array(self, values: list[Any], dtype: Any = np.int32) -> np.ndarray:
            return np.array(values, dtype)

    monkeypatch.setattr(device, "np", Narrow())
    assert Recognizer(open_bundle(bundle)).transcribe(noise(1.0)) == expected and expected.tokens


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "w0.3", "a.wav"], "has no size w0.3: name one of w1, w0.5"),
        (["absent.wav"], "absent.wav is no WAV file of integers at 8000 Hz (FileNotFoundError"),
        (["--bundle", "absent", "a.wav"], "absent/manifest.json cannot be used (FileNotFoundError"),
    ],
)
def test_wrong_words_are_one_line(bundle: Path, says: Says, words: list[str], message: str) -> None:
    status, text = says("transcribe", "--bundle", bundle, *words)
    assert status == 1 and message in text and len(text.splitlines()) == 1


def wav_header(path: Path) -> None:
    write_wav(path)
    path.write_bytes(path.read_bytes()[:1000])


def write_long(path: Path) -> None:
    write_wav(path)
    content = bytearray(path.read_bytes())
    content[32:36] = struct.pack("<HH", 8, 64)
    path.write_bytes(content)


WAVES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "EOFError"),
    "no wav": (lambda path: path.write_text("words" * 20), "does not start with RIFF"),
    "another rate": (lambda path: write_wav(path, rate=16000), "it has 16000 Hz"),
    "no samples": (lambda path: write_wav(path, 0.0), "it holds no samples"),
    "truncated": (wav_header, "it is truncated"),
    "64 bits": (write_long, "it has 8000 Hz and 64 bits"),
    "floats": (lambda path: soundfile.write(path, noise(1.0), RATE, subtype="FLOAT"), "unknown format: 3"),
}


@pytest.mark.parametrize("name", WAVES)
def test_a_wrong_recording_is_named_with_a_remedy(bundle: Path, says: Says, tmp_path: Path, name: str) -> None:
    write, message = WAVES[name]
    write(tmp_path / "a.wav")
    status, text = says("transcribe", "--bundle", bundle, tmp_path / "a.wav")
    assert status == 1 and message in text and len(text.splitlines()) == 1
    assert "a.wav is no WAV file" in text and "ffmpeg -i FILE -ar 8000" in text


@pytest.mark.parametrize(("bits", "channels", "seconds"), [(24, 1, 1.0), (16, 2, 1.0), (24, 2, 0.01)])
def test_other_widths_channels_and_lengths_are_read(
    bundle: Path, says: Says, tmp_path: Path, bits: int, channels: int, seconds: float
) -> None:
    samples = np.stack([noise(seconds)] * channels, axis=1)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype=f"PCM_{bits}")
    status, text = says("transcribe", "--bundle", bundle, tmp_path / "a.wav")
    assert (status, text) == (0, Recognizer(open_bundle(bundle)).transcribe(samples[:, 0]).text + "\n")


def write_profile(path: Path, text: str = "", architecture: str = "cd" * 32, **changes: object) -> Path:
    """A profile of one size of the bundle, as older versions wrote it; ``text`` takes the place of its RTF."""
    row = {"size": "w1", "precision": "float", "threads": 1, "bytes": 5, "peak_mb": None, "encoder_ms": 1.0}
    row |= {"load_ms": 1.0, "encoder_ms_per_second": 1.0, "rtf": 0.1, "rtf_p90": 0.1}
    profile = {"format": "slimasr-profile", "version": 1, "model": {"architecture": architecture}, "rows": [row]}
    profile |= changes
    path.write_text(json.dumps(profile).replace('"rtf": 0.1', f'"rtf": {text or 0.1}'), encoding="utf-8")
    return path


def test_the_profile_of_another_bundle_is_refused(own: Path, says: Says, tmp_path: Path) -> None:
    path = write_profile(tmp_path / "phone.json", architecture="other")
    status, text = says("choose", "--bundle", own, "--profile", path)
    assert status == 1 and "phone.json is that of another bundle" in text
    write_profile(path)
    status, text = says("choose", "--bundle", own, "--profile", path, "--threads", "2")
    assert status == 1 and "phone.json lacks these threads and sizes" in text


@pytest.mark.parametrize(("carrier", "ours"), [(None, None), ("lstm", CHUNK)])
def test_the_profile_of_a_bundle_that_is_fed_otherwise_is_refused(
    says: Says, tmp_path: Path, carrier: str | None, ours: int | None
) -> None:
    own = make_bundle(tmp_path / "own", carrier=carrier)
    path = write_profile(tmp_path / "phone.json")
    words = ("choose", "--bundle", own, "--profile", path)
    assert says(*words)[0] == 0
    for chunk in (None, CHUNK, 2 * CHUNK):
        # The states are those of another size.
        write_profile(path, streaming=chunk and {"carrier": "lstm", "chunk_frames": chunk, "states": []})
        status, text = says(*words)
        assert status == (0 if chunk == ours else 1)
        assert ("phone.json is that of another bundle, or of one fed otherwise" in text) == (chunk != ours)


def test_a_set_on_which_no_size_was_measured_is_refused(own: Path, says: Says, tmp_path: Path) -> None:
    path = write_profile(tmp_path / "phone.json")
    words = ("choose", "--bundle", own, "--profile", path, "--set", "tset")
    status, text = says(*words)
    assert status == 1 and text == f"run.py: {own}: no size has a WER on tset: name one of dev\n"
    # Where no WER is known, the most parameters count.
    sizes = [{**size, "float": {**size["float"], "wer": {}}} for size in open_bundle(own).manifest["sizes"]]
    change_manifest(own, sizes=sizes)
    assert says(*words)[0] == 0


def test_the_bytes_of_a_choice_are_those_of_the_bundle(own: Path, says: Says, tmp_path: Path) -> None:
    """The profile may be that of a bundle of the same model with more or fewer sizes."""
    path = write_profile(tmp_path / "phone.json")
    assert says("choose", "--bundle", own, "--profile", path, "--max-mb", 1)[0] == 0
    status, text = says("choose", "--bundle", own, "--profile", path, "--max-mb", 1e-4)
    total = open_bundle(own).size("w1")["float"]["bytes"] / 1e6
    assert status == 1 and f"mb of the nearest is {total}, above 0.0001" in text


@pytest.mark.parametrize(
    ("rtf", "message"),
    [
        ("NaN", "phone.json cannot be used (ValueError"),
        ("-0.5", "rtf of the nearest is None, above 0.2"),
        ('"fast"', "own/manifest.json was altered (TypeError"),
        ('0.1, "rtf_p90": null, "threads": 1, "precision": "int4"', "phone.json lacks these threads and sizes"),
    ],
)
def test_figures_that_are_no_times_keep_no_limit(own: Path, says: Says, tmp_path: Path, rtf: str, message: str) -> None:
    path = write_profile(tmp_path / "phone.json", rtf)
    status, text = says("choose", "--bundle", own, "--profile", path, "--max-rtf", 0.2)
    assert status == 1 and message in text


def test_a_limit_that_is_no_number_is_not_kept(own: Path, says: Says, tmp_path: Path) -> None:
    path = write_profile(tmp_path / "phone.json")
    assert says("choose", "--bundle", own, "--profile", path, "--max-rtf", "nan")[0] == 1


@pytest.mark.parametrize("package", ["onnxruntime", "numpy"])
def test_a_package_that_is_absent_is_named(bundle: Path, tmp_path: Path, package: str) -> None:
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('gone', name={package!r})", encoding="utf-8")
    shutil.copy(PROGRAM, tmp_path / "run.py")
    command = [sys.executable, str(tmp_path / "run.py"), "transcribe", "--bundle", str(bundle), "a.wav"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == f"run.py: gone: python -m pip install {package}\n"
