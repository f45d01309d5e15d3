"""CPU time until ``slimasr-transcribe`` has printed its first text, beside that of importing torch alone.

The model is the 1 M-parameter preset of AN4 with random weights, as time hardly depends on them. The recording is three
seconds of noise. Both sides are fresh processes, which run in turn.

    startup.py          transcription alone
    startup.py DATA     also slimasr-train until its first step, on AN4's data folder after stage 3
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch
from common import child_seconds, report
from untrained import letter_tokenizer

from slimasr.config.load import load_config
from slimasr.experiment.record import write_record
from slimasr.models.build import build_model
from slimasr.results.schema import Results
from slimasr.supernet.build import build_space

PRESET = Path(__file__).resolve().parents[2] / "egs" / "an4" / "conf" / "slimmable.yaml"
SAMPLING_RATE = 16000
SECONDS = 3
CPU_SECONDS_AT_MOST = 2.0
REPEATS = 7
TRAIN_SECONDS_AT_MOST = 10.0
TRAIN_REPEATS = 3
UNTIL_FIRST_STEP = """
import os
from slimasr.cli.train import main
from slimasr.training.step import Stepper

step = Stepper.step

def step_and_leave(self, batches, context):
    step(self, batches, context)
    os._exit(0)

Stepper.step = step_and_leave
main()
"""
"""A program that is slimasr-train and ends after the first optimiser step."""


def make_experiment(root: Path) -> Path:
    """Make an experiment folder with random weights."""
    config = load_config(PRESET)
    lang = root / "lang"
    tokenizer = letter_tokenizer(lang)
    exp = root / "exp"
    write_record(exp, config, lang, Results())
    torch.manual_seed(0)
    model = build_model(config.model, config.loss, tokenizer.vocab_size, build_space(config).widths)
    torch.save({"model": model.state_dict(), "tokenizer": tokenizer.fingerprint}, exp / "final.pt")
    return exp


def make_recording(root: Path) -> Path:
    """Write a recording of noise at the sampling rate of the preset."""
    path = root / "noise.wav"
    samples = 0.1 * np.random.default_rng(0).standard_normal(SECONDS * SAMPLING_RATE)
    soundfile.write(path, samples, SAMPLING_RATE)
    return path


def measure_training(data: Path) -> None:
    """Measure slimasr-train up to its first step, without the scan of the largest batches."""
    found = []
    for _ in range(TRAIN_REPEATS + 1):
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["--config", str(PRESET), "--data", str(data), "--exp", str(Path(folder) / "exp")]
            arguments += ["--set", "training.scan_worst_batches=false"]
            found.append(child_seconds([sys.executable, "-c", UNTIL_FIRST_STEP, *arguments]))
    cpu = statistics.median(seconds.cpu for seconds in found[1:])
    wall = statistics.median(seconds.wall for seconds in found[1:])
    title = "slimasr-train until the first step, CPU seconds"
    report(title, cpu, TRAIN_SECONDS_AT_MOST, cpu / TRAIN_SECONDS_AT_MOST, 1.0, wall_seconds=wall)


def main() -> None:
    """Measure the commands, each in turn with its other side."""
    if len(sys.argv) == 2:
        measure_training(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        program = "from slimasr.cli.transcribe import main; main()"
        transcribe = [sys.executable, "-c", program, str(make_experiment(root)), str(make_recording(root))]
        import_torch = [sys.executable, "-c", "import torch"]
        ours = []
        other = []
        # The first run of each fills the caches of files and does not count.
        for _ in range(REPEATS + 1):
            ours.append(child_seconds(transcribe))
            other.append(child_seconds(import_torch))
    cpu = statistics.median(seconds.cpu for seconds in ours[1:])
    report(
        "slimasr-transcribe until the first text, CPU seconds",
        cpu,
        CPU_SECONDS_AT_MOST,
        cpu / CPU_SECONDS_AT_MOST,
        1.0,
        fastest=min(seconds.cpu for seconds in ours[1:]),
        wall_seconds=statistics.median(seconds.wall for seconds in ours[1:]),
        import_torch=statistics.median(seconds.cpu for seconds in other[1:]),
        import_torch_fastest=min(seconds.cpu for seconds in other[1:]),
    )


if __name__ == "__main__":
    main()
