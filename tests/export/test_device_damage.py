"""What the program of a bundle says of damaged files, wrong words and other mistakes."""

from __future__ import annotations

import json
import math
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
from slimasr.export.device import BundleError, Recognizer, open_bundle, read_wav, verify
from tests.export.conftest import Says

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.export.tiny_bundle import (  # noqa: E402
    CHUNK,
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

# What it is made of


def test_a_sound_bundle_passes(bundle: Path, tmp_path: Path) -> None:
    for folder in (bundle, make_bundle(tmp_path / "c", "ctc"), make_bundle(tmp_path / "s", carrier="conformer")):
        assert verify(folder) == []
    done = run("verify", "--bundle", bundle)
    assert done.returncode == 0 and "all files are as written" in done.stdout


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
def test_damage_is_found_and_named(own: Path, says: Says, name: str) -> None:
    damage, recorded, message = DAMAGE[name]
    damage(own)
    # As an exporter would have recorded the damaged files, whose checksums then fit
    if recorded:
        record(own, recorded.split())
    problems = verify(own)
    assert any(message in problem for problem in problems), problems
    assert all("\n" not in problem for problem in problems)
    status, text = says("verify", "--bundle", own)
    assert status == 1 and message in text


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
def test_a_manifest_that_it_does_not_know_is_an_error(
    own: Path, says: Says, change: dict[str, object], message: str
) -> None:
    change_manifest(own, **change)
    status, text = says("transcribe", "--bundle", own, "a.wav")
    assert status == 1 and message in text
    assert verify(own) == [text.strip().removeprefix("run.py: ")]


def test_another_bundles_weights_are_noticed_before_they_run(own: Path) -> None:
    (own / "weights.bin").write_bytes(b"0" * 1000)
    with pytest.raises(BundleError, match="weights.bin is another file, of 1000 bytes"):
        Recognizer(open_bundle(own))
    Recognizer(open_bundle(own), int8=True)


def test_encoders_of_two_sizes_are_not_taken_for_each_other(own: Path) -> None:
    wide, narrow = own / "encoder.w1.onnx", own / "encoder.w0.5.onnx"
    recognizer = Recognizer(open_bundle(own))
    assert wide.stat().st_size == narrow.stat().st_size, "their numbers of bytes tell them apart"
    wide.write_bytes(narrow.read_bytes())
    with pytest.raises(BundleError, match=r"encoder.w1.onnx is that of {'width': 0.5}, not of {'width': 1.0}"):
        Recognizer(open_bundle(own))
    recognizer.switch("w0.5")


def test_other_tokens_of_as_many_bytes_are_noticed(own: Path) -> None:
    text = (own / "tokens.txt").read_text(encoding="utf-8")
    (own / "tokens.txt").write_text(text.replace("b 5", "c 5").replace("c 6", "b 6"), encoding="utf-8")
    with pytest.raises(BundleError, match="tokens.txt is another file"):
        Recognizer(open_bundle(own))


def test_a_bundle_of_several_languages_has_no_size_for_all(own: Path) -> None:
    sizes = open_bundle(own).manifest["sizes"]
    named = [{**size, "language": name} for size, name in zip(sizes, ("fr", "nl"), strict=True)]
    change_manifest(own, languages=["fr", "nl"], sizes=named)
    with pytest.raises(BundleError, match="has no size for all languages: name one of w1, w0.5"):
        Recognizer(open_bundle(own))
    Recognizer(open_bundle(own), "w0.5")
    assert verify(own) == []


Changes = dict[str, Any]
KEYS: list[tuple[Changes, str]] = [
    ({"vocab_size": "9"}, "manifest.json was altered (TypeError"),
    ({"audio": {"frame_shift": 0.01}}, "manifest.json was altered (KeyError('sample_rate'))"),
    ({"files": ["tokens.txt"]}, "manifest.json was altered (AttributeError"),
    ({"sizes": ["w1"]}, "manifest.json was altered (TypeError"),
    ({"vocab_size": math.nan}, "manifest.json cannot be used (ValueError"),
]


@pytest.mark.parametrize(("changes", "message"), KEYS)
def test_altered_keys_of_the_manifest_are_one_line(own: Path, says: Says, changes: Changes, message: str) -> None:
    change_manifest(own, **changes)
    for words in (("transcribe", "a.wav"), ("verify",)):
        status, text = says(*words, "--bundle", own)
        assert status == 1 and message in text and len(text.splitlines()) == 1


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
def test_a_wrong_recording_is_named_with_a_remedy(tmp_path: Path, name: str) -> None:
    write, message = WAVES[name]
    write(tmp_path / "a.wav")
    with pytest.raises(BundleError) as error:
        read_wav(tmp_path / "a.wav", RATE)
    assert message in str(error.value) and "a.wav" in str(error.value) and "ffmpeg -i FILE -ar 8000" in str(error.value)


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


def test_a_size_that_fails_to_be_measured_is_named(own: Path) -> None:
    make_newer(own)
    record(own, ["joiner.onnx"])
    done = run("profile", "--bundle", own, "--repeats", 1)
    assert done.returncode == 1 and "w1 in float: run.py: " in done.stderr and "upgrade onnxruntime" in done.stderr


def test_onnxruntime_that_is_absent_is_named(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ModuleNotFoundError('gone', name='onnxruntime')", encoding="utf-8")
    shutil.copy(PROGRAM, tmp_path / "run.py")
    command = [sys.executable, str(tmp_path / "run.py"), "transcribe", "--bundle", str(bundle), "a.wav"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "python -m pip install onnxruntime" in done.stderr
