"""Hotwords in sherpa-onnx: the call in a bundle's README favours them, and ``bpe.vocab`` is what it takes."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import soundfile

from slimasr.export.check.audio import synthetic_audio
from slimasr.export.readme import bundle_readme
from tests.export.check.conftest import Place

RATE = 16000
SCORE = "hotwords_score=2.0"
"""As in the README, too little for random weights."""


def recognized(place: Place, call: str) -> str:
    """Recognise a recording with a recogniser of sherpa-onnx, in the bundle's folder."""
    soundfile.write(place.bundle / "a.wav", synthetic_audio(RATE)[-1].samples, RATE, subtype="FLOAT")
    program = f"""
import sherpa_onnx, soundfile
{call}
samples, rate = soundfile.read("a.wav", dtype="float32")
stream = recognizer.create_stream()
stream.accept_waveform(rate, samples)
recognizer.decode_stream(stream)
print("text:", stream.result.text)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=place.bundle, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (text,) = re.findall(r"text: (.*)", done.stdout)
    return str(text)


def test_hotwords_are_found_more_often(place: Place) -> None:
    manifest = json.loads((place.bundle / "manifest.json").read_text(encoding="utf-8"))
    section = bundle_readme(manifest).partition("## Hotwords")[2]
    call = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    assert SCORE in call and 'bpe_vocab="bpe.vocab",' in call
    (place.bundle / "hotwords.txt").write_text("no\n", encoding="utf-8")
    plain = recognized(place, call.replace(SCORE, "hotwords_score=0.0001"))
    favoured = recognized(place, call.replace(SCORE, "hotwords_score=10.0"))
    assert favoured.count("no") > plain.count("no")
    without = call.replace('modeling_unit="bpe"', 'modeling_unit="cjkchar"').replace('bpe_vocab="bpe.vocab",', "")
    assert recognized(place, without.replace(SCORE, "hotwords_score=10.0")) == plain
