"""Encoders on emulated processors, and what ``--emulate`` and ``--sysroot`` refuse."""

from __future__ import annotations

import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import pytest

from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.export.check.audio import synthetic_audio
from slimasr.export.check.bundle import CheckedBundle
from slimasr.export.check.compare import as_ours, differences
from slimasr.export.check.emulate import PROCESSORS, Emulator, is_foreign, recognize_emulated
from slimasr.export.check.reference import Reference
from slimasr.export.check.runtime import Run, recognize
from slimasr.export.check.tokens import TokenReading
from slimasr.supernet.subnet import Subnet
from tests.export.check.conftest import Place
from tests.export.check.handmade import rewrite, sign
from tests.export.check.test_files import change_manifest, check
from tests.results.kit import results_json

VARIABLE = "SLIMASR_ARM_SYSROOT"


def has_emulator(name: str) -> Emulator:
    """Return the emulator of a processor; the test is skipped where there is none."""
    program = f"qemu-{PROCESSORS[name].machine}"
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    sysroot = os.environ.get(VARIABLE)
    if is_foreign(name) and not sysroot:
        pytest.skip(f"${VARIABLE} names no folder with a system of ARM; tools/arm_sysroot.sh makes one")
    return Emulator.find(name, Path(sysroot) if sysroot else None)


@pytest.mark.parametrize("name", list(PROCESSORS))
def test_encoders_on_an_emulated_processor(place: Place, name: str) -> None:
    emulator = has_emulator(name)
    bundle = CheckedBundle.open(place.bundle)
    experiment = Experiment.open(place.exp)
    reference = Reference.of(experiment, Subnet(0.5), 2)
    audio = synthetic_audio(16000)[:4]
    variant = next(bundle.variants())
    emulated = recognize_emulated(emulator, variant.encoder, reference, audio)
    assert [str(one.run.method) for one in emulated] == ["greedy_search", "modified_beam_search"]
    assert differences(audio, reference.recognize(audio), emulated) == []
    native = recognize(bundle.client(variant), audio, [Run()])
    assert as_ours(native, TokenReading.of(experiment.tokenizer))[0].found == emulated[0].found
    assert any(found.ids for found in emulated[0].found)


def test_int8_says_the_same_on_arm_with_and_without_products_of_int8(place: Place) -> None:
    """Neither of both kernels saturates, so that both compute the same sums."""
    emulators = [has_emulator(name) for name in ("cortex-a76", "cortex-a53")]
    bundle = CheckedBundle.open(place.bundle)
    (variant,) = (one for one in bundle.variants() if one.precision == "int8")
    reference = Reference.of(Experiment.open(place.exp), Subnet(0.5), 2)
    audio = synthetic_audio(16000)[:4]
    new, old = (recognize_emulated(one, variant.encoder, reference, audio) for one in emulators)
    assert [one.found for one in new] == [one.found for one in old]
    assert any(found.ids for found in new[0].found)


def in_place_of_qemu(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Put a shell script in the place of qemu-x86_64; return its path."""
    program = folder / "bin" / "qemu-x86_64"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return program


def test_an_emulator_that_fails_loses_no_other_figures(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = in_place_of_qemu(tmp_path, monkeypatch, "echo out of memory >&2\nexit 3")
    words = ("--data", str(place.data), "--set-name", "test", "--max-int8-loss", "1000")
    result = check(place, *words, "--emulate", "haswell")
    assert result.exit_code == 1
    assert f"encoder.w0.5.int8.onnx: ended with status 3 at test-0 in {program} -cpu Haswell" in result.stderr
    assert "(last line: out of memory)" in result.stderr
    assert "not accepted: w0.5 int8;" in result.stderr
    models = json.loads((place.bundle / "check.json").read_text())["sizes"]["w0.5"]["models"]
    assert models.keys() == {"float", "int8"} and "emulated" not in models["float"]
    assert results_json(place.exp)["subnets"]["w0.5"]["deployed"] == models


def test_figures_of_an_emulated_processor_stay_while_the_encoder_does(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not that processor, but this one
    in_place_of_qemu(tmp_path, monkeypatch, 'shift 2\nexec "$@"')
    words = ("--data", str(place.data), "--set-name", "test", "--max-int8-loss", "1000")

    def noted() -> Any:
        return results_json(place.exp)["subnets"]["w0.5"]["deployed"]["int8"]

    assert check(place, *words, "--emulate", "haswell").exit_code == 0
    first = noted()
    assert first["emulated"]["haswell"]["test"]["utterances"] == 3
    assert check(place, *words).exit_code == 0
    assert noted()["emulated"] == first["emulated"]
    rewrite(place.bundle / "encoder.w0.5.int8.onnx", lambda model: setattr(model, "doc_string", "another file"))
    sign(place.bundle)
    assert check(place, *words).exit_code == 0
    assert "emulated" not in noted() and noted()["encoder"] != first["encoder"]


def test_unknown_processors_and_missing_programs_are_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    result = check(place, "--emulate", "z80")
    names = "haswell, cortex-a76, cortex-a53"
    assert (result.exit_code, result.stderr) == (1, f"error: --emulate z80: choose one of {names}\n")
    monkeypatch.setenv("PATH", "")
    for name, program in (("haswell", "qemu-x86_64"), ("cortex-a76", "qemu-aarch64")):
        result = check(place, "--emulate", name)
        assert result.exit_code == 1
        assert f"{program} is not installed: install Debian's package qemu-user" in result.stderr


def test_another_architecture_needs_a_system_of_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is not installed")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    result = check(place, "--emulate", "cortex-a76")
    assert result.exit_code == 1
    assert "its architecture, aarch64, is not that of this machine: name a folder" in result.stderr
    result = check(place, "--emulate", "cortex-a76", "--sysroot", str(place.data))
    assert result.exit_code == 1
    assert f"--sysroot {place.data}: it has no usr/bin/python3: name a folder with a system of aarch64" in result.stderr
    python = place.exp.parent / "root" / "usr" / "bin" / "python3"
    python.parent.mkdir(parents=True)
    python.touch()
    result = check(place, "--emulate", "cortex-a76", "--sysroot", str(python.parents[2]))
    assert result.exit_code == 1
    assert "root: usr/bin/python3 does not load numpy and onnxruntime on cortex-a76" in result.stderr
    result = check(place, "--sysroot", str(place.data))
    assert result.exit_code == 1
    assert "--sysroot: no processor of --emulate is of another architecture than this machine" in result.stderr


def test_a_processor_of_this_architecture_runs_this_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "qemu-aarch64"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert Emulator.find("cortex-a53").python[:3] == (str(program), "-cpu", "cortex-a53")
    with pytest.raises(UserError, match="qemu-x86_64 is not installed"):
        Emulator.find("haswell")


def test_streams_are_not_emulated(place: Place) -> None:
    if shutil.which("qemu-x86_64") is None:
        pytest.skip("qemu-x86_64 is not installed")
    fed = {"carrier": "lstm", "chunk_frames": 32, "window_frames": 35, "tail_seconds": 0.4, "states": []}
    change_manifest(place.bundle, streaming=fed)
    result = check(place, "--emulate", "haswell")
    assert (result.exit_code, "this bundle streams; leave it out" in result.stderr) == (1, True)
    # Its files are those of whole utterances.
    assert "encoder.w0.5.onnx: its metadata say model_type=conformer, needs to be lstm" in check(place).stderr
