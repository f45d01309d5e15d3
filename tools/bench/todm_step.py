"""Time and peak memory of a sandwich step against a step of the separate full-size model, on the same batch.

The model is the MH-SSM transducer of the paper with half its layers and FFN channels (LibriSpeech preset, V 500); the
batch holds 16 utterances of 10 s of noise with three tokens per second. Steps of all sides take turns, so that other
work on the machine disturbs them alike. Peak memory is what one step adds to the memory that its process held before;
each side has a process of its own (Linux).
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from pathlib import Path

from common import added_peak_megabytes, median_seconds, report, resident_bytes
from steps import make_step, noise_batch

from slimasr.config.load import load_config
from slimasr.config.schema import Config

CONF = Path(__file__).resolve().parents[2] / "egs/librispeech/conf"
HALVED = (
    "model.encoder.num_layers=8",
    "model.encoder.ffn_dim=2048",
    "space.depths=[8, 6, 4]",
    "space.units.ffn=[2048, 1024, 512, 256]",
    "tokenizer.vocab_size=500",
    "training.precision=float32",
)
PRESETS = {"separate": "todm_separate.yaml", "sandwich": "todm_dropout.yaml", "taught sandwich": "todm_kl.yaml"}
UTTERANCES, SECONDS = 16, 10
REPEATS = 3
TARGET_TIME, TARGET_TIME_TAUGHT, TARGET_MEMORY_TAUGHT = 1.7, 1.9, 1.6


def config_of(side: str) -> Config:
    """Return the preset of one side, halved."""
    return load_config(CONF / PRESETS[side], HALVED)


def added_peak_bytes(side: str) -> int:
    """Return the peak resident memory that one step adds; to be called once, in a process of its own."""
    config = config_of(side)
    step = make_step(config)
    step(noise_batch(config, 4, 1))  # libraries, thread pools and the optimiser's state do not count
    batch = noise_batch(config, UTTERANCES, SECONDS)
    before = resident_bytes("VmRSS")
    step(batch)
    return resident_bytes("VmHWM") - before


def main() -> None:
    """Run the comparison, or one memory measurement in a child process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peak-bytes-of", choices=PRESETS, help="print only the memory that one step adds, in bytes")
    side = parser.parse_args().peak_bytes_of
    if side:
        print(added_peak_bytes(side))
        return
    peaks = {side: added_peak_megabytes(__file__, side) for side in PRESETS}
    batch = noise_batch(config_of("separate"), UTTERANCES, SECONDS)
    steps = {side: partial(make_step(config_of(side)), batch) for side in PRESETS}
    for step in steps.values():
        step()
    turns = [[median_seconds(step, repeats=1, warm_ups=0) for step in steps.values()] for _ in range(REPEATS)]
    seconds = dict(zip(steps, map(statistics.median, zip(*turns, strict=True)), strict=True))
    for side, target in (("sandwich", TARGET_TIME), ("taught sandwich", TARGET_TIME_TAUGHT)):
        report(
            f"{side} against separate step, 34 M MH-SSM, seconds",
            seconds[side],
            seconds["separate"],
            seconds[side] / seconds["separate"],
            target,
            ours_peak_mb=peaks[side],
            other_peak_mb=peaks["separate"],
            peak_ratio=peaks[side] / peaks["separate"],
            peak_target=TARGET_MEMORY_TAUGHT if side == "taught sandwich" else "none",
        )


if __name__ == "__main__":
    main()
