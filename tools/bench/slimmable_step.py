"""Time of one slimmable step (four widths) against one step of the separate full-width model, on the same batch.

A step is the one of the trainer: SpecAugment, forward and backward passes with the preset's losses, clipping, AdamW.
The batch holds 8 utterances of 10 s of noise, each labelled with three tokens per second. Steps of the two sides take
turns, so that other work on the machine disturbs both alike.
"""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path

from common import median_seconds, report
from steps import make_step, noise_batch

from slimasr.config.load import load_config

EGS = Path(__file__).resolve().parents[2] / "egs"
UTTERANCES, SECONDS = 8, 10
REPEATS = 3
TARGET_30M = 2.2


def measure(name: str, preset: Path, target: float | None) -> None:
    """Time both sides and print the result."""
    separate = ("method.kind=separate", "method.subnet='1.0'")
    config = load_config(preset)
    steps = (make_step(config), make_step(load_config(preset, separate)))
    batch = noise_batch(config, UTTERANCES, SECONDS)
    for step in steps:
        step(batch)
    turns = [[median_seconds(partial(step, batch), repeats=1, warm_ups=0) for step in steps] for _ in range(REPEATS)]
    ours, other = (statistics.median(seconds) for seconds in zip(*turns, strict=True))
    report(f"slimmable against separate step, {name}, seconds", ours, other, ours / other, target)


def main() -> None:
    """Measure both presets."""
    measure("30 M preset, pruned loss, V 500", EGS / "librispeech/conf/slimmable_30M_bpe500.yaml", TARGET_30M)
    measure("AN4 preset, full lattice and CTC", EGS / "an4/conf/slimmable.yaml", None)


if __name__ == "__main__":
    main()
