"""The README of a bundle: its Python examples run in sherpa-onnx and say what ``run.py`` says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from slimasr.export import device
from slimasr.export.readme import bundle_readme

for name in ("onnx", "onnxruntime", "sherpa_onnx"):
    pytest.importorskip(name)

from tests.export.tiny_bundle import RATE, TOKENS, change_manifest, make_bundle  # noqa: E402

KINDS = {"transducer": ("transducer", None), "ctc": ("ctc", None), "stream": ("transducer", "lstm")}


def written(folder: Path) -> str:
    return bundle_readme(json.loads((folder / "manifest.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("kind", KINDS)
def test_the_python_examples_run(tmp_path: Path, kind: str) -> None:
    folder = make_bundle(tmp_path / "bundle", *KINDS[kind])
    (folder / "bpe.vocab").write_text("".join(f"{token}\t0\n" for token in TOKENS), encoding="utf-8")
    (folder / "hotwords.txt").write_text("abc\n", encoding="utf-8")
    shutil.copy(device.__file__, folder / "run.py")
    speech = device.np.random.default_rng(0).normal(0.0, 0.1, 2 * RATE)
    soundfile.write(folder / "a.wav", speech, RATE, subtype="PCM_16")
    examples = re.findall(r"```python\n(.*?)```", written(folder), re.DOTALL)
    assert len(examples) == (2 if kind == "ctc" else 3)
    script = folder / "examples.py"
    script.write_text("\n".join(examples), encoding="utf-8")
    done = subprocess.run([sys.executable, script.name], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    # The last two lines are from run.py, at two sizes.
    bundle = device.open_bundle(folder)
    texts = [
        device.Recognizer(bundle, size).transcribe(device.read_wav(folder / "a.wav", RATE)).text
        for size in ("w1", "w0.5")
    ]
    assert done.stdout.splitlines()[-2:] == texts and texts[0] != texts[1]


def test_it_names_sizes_bytes_and_error_rates(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle")
    text = written(folder)
    for row in ("| w1 | 1,000 | 2 | 0.00 | 0.00 | 10.0 | 10.0 |", "| w0.5 | 500 | 1 | 0.00 | 0.00 | 20.0 | 20.0 |"):
        assert row in text
    assert "SessionConfig.session.x64quantprecision=1" in text and "--int8-bits 7" in text
    assert "--max-mb 1\n" in text  # of some 2 kB, so that the example finds a size
    assert "sherpa-onnx-offline" in text and "--encoder=encoder.w1.onnx" in text
    sizes = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["sizes"]
    change_manifest(folder, sizes=[{**size, "int8": None} for size in sizes])
    assert "int8" not in written(folder)


def test_the_keys_of_the_manifest_are_described(tmp_path: Path) -> None:
    manifest = json.loads(
        (make_bundle(tmp_path / "bundle", carrier="lstm") / "manifest.json").read_text(encoding="utf-8")
    )
    described = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text(encoding="utf-8")
    size = manifest["sizes"][0]
    for part in (manifest, manifest["model"], manifest["audio"], manifest["streaming"], size, size["float"]):
        assert [key for key in part if f"{key}`" not in described] == []
