"""What the program of a bundle says of damaged files."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimasr.export.device import BundleError, Recognizer, open_bundle, verify
from tests.export.conftest import Says

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.export.tiny_bundle import (  # noqa: E402
    TOKENS,
    change_manifest,
    encoder_weight,
    make_bundle,
    record,
    run,
    write_wav,
)
from tests.tiny import MODEL  # noqa: E402

# What it is made of


def test_a_sound_bundle_passes(bundle: Path, tmp_path: Path) -> None:
    for folder in (bundle, make_bundle(tmp_path / "c", "ctc"), make_bundle(tmp_path / "s", carrier="conformer")):
        assert verify(open_bundle(folder)) == (0, [])
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


def swap_with_decoder(folder: Path, name: str) -> None:
    """Give two files the content of each other."""
    path, decoder = folder / name, folder / "decoder.onnx"
    content = path.read_bytes()
    path.write_bytes(decoder.read_bytes())
    decoder.write_bytes(content)


def raise_operators(folder: Path) -> None:
    model = onnx.load(folder / "joiner.onnx")
    model.opset_import[0].version = 99
    (folder / "joiner.onnx").write_bytes(model.SerializeToString())


def take_weights_of_another(folder: Path) -> None:
    """A file of as many bytes, as that of the same space with other weights."""
    content = (folder / "weights.bin").read_bytes()
    (folder / "weights.bin").write_bytes(content[::-1])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights are altered": (alter_weights, "weights.bin was altered"),
    "weights are those of another bundle": (take_weights_of_another, "weights.bin was altered"),
    "weights are cut": (lambda f: (f / "weights.bin").write_bytes(b"abc"), "weights.bin has 3 bytes instead of 3840"),
    "weights are absent": (lambda f: (f / "weights.int8.bin").unlink(), "weights.int8.bin is missing"),
    "tokens are absent": (lambda f: (f / "tokens.txt").unlink(), "tokens.txt is missing"),
    "tokens are short": (shorten_tokens, "tokens.txt has 58 bytes instead of 67"),
    "tokens have other ids": (renumber_tokens, "tokens.txt was altered"),
    "joiner and decoder are swapped": (
        lambda f: swap_with_decoder(f, "joiner.onnx"),
        "decoder.onnx has the content of joiner.onnx",
    ),
    "encoder and decoder are swapped": (
        lambda f: swap_with_decoder(f, "encoder.w1.onnx"),
        "decoder.onnx has the content of encoder.w1.onnx",
    ),
    "metadata are gone": (strip_metadata, "decoder.onnx has "),
    "the file is too new": (make_newer, "joiner.onnx was altered"),
}
"""What was done to a bundle -> what ``run.py verify`` says."""

RECORDED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "tokens are short": (shorten_tokens, "tokens.txt", "tokens.txt has not one line for each id below 9"),
    "tokens have other ids": (renumber_tokens, "tokens.txt", "tokens.txt has not one line for each id below 9"),
    "metadata are gone": (strip_metadata, "decoder.onnx", "decoder.onnx: vocab_size is None instead of 9"),
    "the file is too new": (make_newer, "joiner.onnx", "upgrade onnxruntime"),
    "operators are too new": (raise_operators, "joiner.onnx", "upgrade onnxruntime"),
    "joiner and decoder are swapped": (
        lambda f: swap_with_decoder(f, "joiner.onnx"),
        "joiner.onnx decoder.onnx",
        "decoder.onnx does not run",
    ),
    "encoder and decoder are swapped": (
        lambda f: swap_with_decoder(f, "encoder.w1.onnx"),
        "encoder.w1.onnx decoder.onnx",
        "encoder.w1.onnx is that of None, not of {'width': 1.0}",
    ),
    "weights are no numbers": (spoil_weights, "weights.bin", "finite scores is 0 instead of 9"),
}
"""The same of damage that was there when the manifest was written, so that all checksums fit."""


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_named(own: Path, says: Says, name: str) -> None:
    damage, message = DAMAGE[name]
    damage(own)
    status, text = says("verify", "--bundle", own)
    assert status == 1 and message in text, text
    assert all(line.endswith(": copy the bundle again, as it was written") for line in text.splitlines())


@pytest.mark.parametrize("name", RECORDED)
def test_damage_that_was_recorded_is_found_and_named(own: Path, says: Says, name: str) -> None:
    damage, recorded, message = RECORDED[name]
    damage(own)
    record(own, recorded.split())
    status, text = says("verify", "--bundle", own)
    assert status == 1 and message in text and len(text.splitlines()) == 1, text


def test_two_wrong_files_are_both_named(own: Path) -> None:
    alter_weights(own)
    (own / "joiner.onnx").unlink()
    assert len(verify(open_bundle(own))[1]) == 2


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
    assert says("verify", "--bundle", own) == (1, text)


def test_another_bundles_weights_are_noticed_before_they_run(own: Path, says: Says, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav")
    (own / "weights.bin").write_bytes(b"0" * 1000)
    words = ("transcribe", "--bundle", own, tmp_path / "a.wav")
    status, text = says(*words)
    assert status == 1 and "weights.bin has 1000 bytes instead of" in text and len(text.splitlines()) == 1
    assert says(*words, "--int8")[0] == 0


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
    with pytest.raises(BundleError, match="tokens.txt was altered"):
        Recognizer(open_bundle(own))


def test_a_bundle_of_several_languages_has_no_size_for_all(own: Path) -> None:
    sizes = open_bundle(own).manifest["sizes"]
    named = [{**size, "language": name} for size, name in zip(sizes, ("fr", "nl"), strict=True)]
    change_manifest(own, languages=["fr", "nl"], sizes=named)
    with pytest.raises(BundleError, match="has no size for all languages: name one of w1, w0.5"):
        Recognizer(open_bundle(own))
    Recognizer(open_bundle(own), "w0.5")
    assert verify(open_bundle(own)) == (0, [])


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


def test_a_size_that_fails_to_be_measured_is_named(own: Path) -> None:
    make_newer(own)
    record(own, ["joiner.onnx"])
    done = run("profile", "--bundle", own, "--repeats", 1)
    assert done.returncode == 1 and "w1 in float: run.py: " in done.stderr and "upgrade onnxruntime" in done.stderr
