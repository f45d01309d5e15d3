"""Speed of the feature stage against real time on one core: decoding, filter banks, compression, writing."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
from common import median_seconds, report
from lhotse import MonoCut

from slimasr.data.audio.recordings import read_recording
from slimasr.data.features.shards import Shard, compute_shard
from slimasr.data.files import write_cuts

SAMPLING_RATE = 16000
NUM_FILES = 60
SECONDS = 10
TARGET = 150.0


def make_shard(folder: Path, speed: float) -> Shard:
    """Make a shard of 16-bit flac files with noise, ten minutes in all."""
    rng = np.random.default_rng(0)
    cuts = []
    for number in range(NUM_FILES):
        path = folder / f"{number}.flac"
        soundfile.write(path, 0.1 * rng.standard_normal(SECONDS * SAMPLING_RATE), SAMPLING_RATE)
        recording = read_recording(path, str(number))
        cuts.append(MonoCut(str(number), 0.0, recording.duration, 0, recording=recording))
    shard = Shard(folder / f"speed{speed:g}", folder, speed, SAMPLING_RATE, num_mel_bins=80, store=True)
    write_cuts(shard.cuts, cuts)
    return shard


def main() -> None:
    """Measure natural speed, which has a target, and a perturbed speed for comparison."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        seconds = {}
        for speed in (1.0, 0.9):
            shard = make_shard(Path(folder), speed)
            seconds[speed] = median_seconds(partial(compute_shard, shard), repeats=3)
    audio = float(NUM_FILES * SECONDS)
    report(
        "features on one core, seconds of work against seconds of audio",
        seconds[1.0],
        audio,
        audio / seconds[1.0],
        TARGET,
        ratio_at_speed_0_9=audio / seconds[0.9],
    )


if __name__ == "__main__":
    main()
