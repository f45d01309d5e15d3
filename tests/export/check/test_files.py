"""Damage to a bundle is named before sherpa-onnx runs, even if the manifest has the checksums of the damaged files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from slimasr.cli.check import run
from slimasr.cli.common import command_app
from tests.export.check.conftest import Place


def check(place: Place, *options: str) -> Result:
    return CliRunner().invoke(command_app(run), [str(place.bundle), "--exp", str(place.exp), *options])


def no_tokens(bundle: Path) -> None:
    (bundle / "tokens.txt").unlink()


def short_tokens(bundle: Path) -> None:
    lines = (bundle / "tokens.txt").read_text().splitlines(keepends=True)
    (bundle / "tokens.txt").write_text("".join(lines[:-1]))


def shifted_tokens(bundle: Path) -> None:
    text = (bundle / "tokens.txt").read_text()
    (bundle / "tokens.txt").write_text(text.replace("<blk> 0", "<blk> 20"))


def double_tokens(bundle: Path) -> None:
    text = (bundle / "tokens.txt").read_text()
    (bundle / "tokens.txt").write_text(text.replace("<unk> 2", "<unk> 1"))


def bare_tokens(bundle: Path) -> None:
    text = (bundle / "tokens.txt").read_text()
    (bundle / "tokens.txt").write_text(text.replace("<unk> 2", "<unk>"))


def stripped(bundle: Path) -> None:
    from tests.export.check.handmade import rewrite

    rewrite(bundle / "decoder.onnx", lambda model: model.ClearField("metadata_props"))


def other_size(bundle: Path) -> None:
    from tests.export.check.handmade import rewrite

    def change(model: object) -> None:
        for entry in model.metadata_props:  # type: ignore[attr-defined]
            entry.value = "77" if entry.key == "vocab_size" else entry.value

    rewrite(bundle / "decoder.onnx", change)


def swapped(bundle: Path) -> None:
    encoder = bundle / "encoder.w0.5.onnx"
    encoder.rename(bundle / "aside")
    (bundle / "decoder.onnx").rename(encoder)
    (bundle / "aside").rename(bundle / "decoder.onnx")


def new_format(bundle: Path) -> None:
    from tests.export.check.handmade import rewrite

    rewrite(bundle / "joiner.onnx", lambda model: setattr(model, "ir_version", 12))


def new_operators(bundle: Path) -> None:
    from tests.export.check.handmade import rewrite

    rewrite(bundle / "joiner.onnx", lambda model: setattr(model.opset_import[0], "version", 23))


def no_weights(bundle: Path) -> None:
    (bundle / "weights.bin").unlink()


def half(name: str) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        content = (bundle / name).read_bytes()
        (bundle / name).write_bytes(content[: len(content) // 2])

    return change


def altered(bundle: Path) -> None:
    content = bytearray((bundle / "weights.bin").read_bytes())
    content[1000] ^= 0x10
    (bundle / "weights.bin").write_bytes(content)


def renamed(bundle: Path) -> None:
    shutil.copyfile(bundle / "encoder.w0.5.onnx", bundle / "encoder.w0.5.int8.onnx")


def newer(bundle: Path) -> None:
    change_manifest(bundle, version=2)


def foreign(bundle: Path) -> None:
    change_manifest(bundle, format="another")


def keyless(bundle: Path) -> None:
    change_manifest(bundle, vocab_size="many")


def unlisted(bundle: Path) -> None:
    altered(bundle)
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    change_manifest(bundle, files={name: note for name, note in files.items() if name != "weights.bin"})


def headless(bundle: Path) -> None:
    change_manifest(bundle, joiner=None)


def sizeless(bundle: Path) -> None:
    change_manifest(bundle, sizes=[])


def superscript_tokens(bundle: Path) -> None:
    text = (bundle / "tokens.txt").read_text()
    (bundle / "tokens.txt").write_text(text.replace("<unk> 2", "<unk> \u00b2"), encoding="utf-8")


def change_manifest(bundle: Path, **changes: object) -> None:
    path = bundle / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGE: dict[Callable[[Path], None], str] = {
    no_tokens: "tokens.txt: is missing; copy the files of the bundle again",
    short_tokens: "tokens.txt: has 8 tokens, the model 9",
    shifted_tokens: "tokens.txt: no token has the id 0",
    double_tokens: "tokens.txt: id 1 has two tokens, <sos/eos> and <unk>",
    bare_tokens: "tokens.txt: line 3 needs to be a token and its id, is '<unk>'",
    stripped: "decoder.onnx: lacks the metadata vocab_size, without which sherpa-onnx ends the program",
    other_size: "decoder.onnx: its metadata say vocab_size=77, needs to be 9",
    swapped: "decoder.onnx: has the inputs of the encoder, not of the decoder",
    new_format: "joiner.onnx: has version 12 of the file format (IR), which older runtimes refuse; at most 8",
    new_operators: "joiner.onnx: needs operators of opset 23, which older runtimes lack; at most 18",
    no_weights: "weights.bin: is missing",
    half("weights.bin"): "weights.bin: is truncated",
    half("encoder.w0.5.onnx"): "encoder.w0.5.onnx: is truncated",
    altered: "weights.bin: was altered after the export, or belongs to another bundle",
    renamed: "encoder.w0.5.int8.onnx: is encoder.w0.5.onnx renamed",
    newer: "version 2 is newer than this slimasr",
    foreign: "not the manifest of a bundle",
    keyless: "damaged, vocab_size",
    unlisted: "weights.bin: is not listed in manifest.json",
    headless: "manifest.json: damaged, joiner is missing",
    sizeless: "manifest.json: damaged, sizes is missing",
    superscript_tokens: "tokens.txt: line 3 needs to be a token and its id",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_is_named_with_its_file(place: Place, damage: Callable[[Path], None]) -> None:
    damage(place.bundle)
    result = check(place)
    assert result.exit_code == 1
    assert DAMAGE[damage] in result.stderr
    assert not [line for line in result.stderr.splitlines() if not line.startswith("error: ")]


@pytest.mark.parametrize("damage", [stripped, swapped, new_format, short_tokens])
def test_new_checksums_hide_no_damage(place: Place, damage: Callable[[Path], None]) -> None:
    from tests.export.check.handmade import sign

    damage(place.bundle)
    sign(place.bundle)
    result = check(place)
    assert result.exit_code == 1
    assert DAMAGE[damage] in result.stderr


def test_other_folders_and_experiments(place: Place, tmp_path: Path) -> None:
    result = CliRunner().invoke(command_app(run), [str(tmp_path)])
    assert result.exit_code == 1
    assert f"{tmp_path}: is no bundle, it has no manifest.json" in result.stderr

    note = json.loads((place.bundle / "manifest.json").read_text())["model"]
    for named, message in ((None, "does not name its experiment"), ("nowhere", "its experiment nowhere is not there")):
        change_manifest(place.bundle, model=note | {"experiment": named})
        result = CliRunner().invoke(command_app(run), [str(place.bundle)])
        assert (result.exit_code, message in result.stderr) == (1, True), result.stderr

    with open(place.exp / "final.pt", "ab") as file:
        file.write(b"\0")
    result = check(place)
    assert result.exit_code == 1
    assert "was made from other weights than" in result.stderr
    assert "export it again" in result.stderr
