"""Sums of int8 products that saturate on older processors, and what makes them exact in sherpa-onnx."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from slimasr.errors import UserError
from slimasr.export.check.audio import synthetic_audio
from slimasr.export.check.bundle import CheckedBundle
from slimasr.export.check.emulate import Emulator
from slimasr.export.check.runtime import Client, Run, Said, recognize
from slimasr.export.quantize import quantized
from slimasr.export.trace import IR_VERSION, OPSET
from tests.export.check.conftest import Place

onnx = pytest.importorskip("onnx", reason="the extra export is not installed")

LARGEST = """
import sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(session.run(None, {"x": numpy.ones((1, 64), numpy.float32)})[0].min())
"""
EXACT = "SessionConfig.session.x64quantprecision=1\n"
AUDIO = synthetic_audio(16000)[4:6]


def client_of(place: Place) -> Client:
    """The int8 files of the bundle."""
    bundle = CheckedBundle.open(place.bundle)
    (variant,) = (one for one in bundle.variants() if one.precision == "int8")
    return bundle.client(variant)


@pytest.fixture
def provider(tmp_path: Path) -> str:
    """The name of a provider whose sums are exact, as the README of bundles describes it."""
    path = tmp_path / "exact.txt"
    path.write_text(EXACT, encoding="utf-8")
    return f"cpu:{path}"


def said_by(client: Client) -> tuple[Said, ...]:
    (ran,) = recognize(client, AUDIO, [Run()])
    return ran.said


def test_sherpa_onnx_takes_a_provider_with_a_file_of_options(place: Place, provider: str) -> None:
    client = client_of(place)
    found = said_by(replace(client, provider=provider))
    assert all(said.text and len(said.tokens) > 10 for said in found)
    with pytest.raises(UserError, match=r"provider config file: .*absent.txt"):
        said_by(replace(client, provider="cpu:absent.txt"))


def test_sums_are_exact_on_a_processor_that_saturates(place: Place, provider: str, tmp_path: Path) -> None:
    """sherpa-onnx as a whole runs on the emulated processor, and says what it says on this one with exact sums."""
    if shutil.which("qemu-x86_64") is None:
        pytest.skip("qemu-x86_64 is not installed")
    wavs = [tmp_path / f"{number}.wav" for number in range(len(AUDIO))]
    for wav, heard in zip(wavs, AUDIO, strict=True):
        soundfile.write(wav, heard.samples, 16000, subtype="FLOAT")
    client = client_of(place)
    given = {"folder": str(place.bundle), "encoder": client.files["encoder"].name, "wavs": [str(wav) for wav in wavs]}
    script = str(Path(__file__).parents[1] / "sherpa_bundle.py")
    command = [*Emulator.find("haswell").python, script, json.dumps({**given, "provider": provider})]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [tuple(tokens) for tokens in json.loads(done.stdout.splitlines()[-1])]
    assert found == [said.tokens for said in said_by(replace(client, provider=provider))]
    assert all(len(tokens) > 10 for tokens in found)


@pytest.mark.parametrize("bits", [7, 8])
def test_weights_of_7_bits_do_not_saturate_where_those_of_8_bits_do(tmp_path: Path, bits: int) -> None:
    if shutil.which("qemu-x86_64") is None:
        pytest.skip("qemu-x86_64 is not installed")
    make = onnx.helper
    x, y = (
        make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, size]) for name, size in (("x", 64), ("y", 16))
    )
    weight = onnx.numpy_helper.from_array(np.full((16, 64), 0.5, np.float32), "weight")
    graph = make.make_graph([make.make_node("Gemm", ["x", "weight"], ["y"], transB=1)], "largest", [x], [y], [weight])
    proto = quantized(make.make_model(graph, opset_imports=[make.make_opsetid("", OPSET)], ir_version=IR_VERSION), bits)
    (tmp_path / "a.onnx").write_bytes(proto.SerializeToString())
    command = [*Emulator.find("haswell").python, "-c", LARGEST, str(tmp_path / "a.onnx")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    exact = float(done.stdout) == pytest.approx(64 * 0.5, rel=1e-3)
    assert exact == (bits == 7)
