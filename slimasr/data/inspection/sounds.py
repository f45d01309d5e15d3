"""Figures of the sound of an utterance: how loud it is, how much of it is clipped, and a digest of its samples.

Utterances are read in blocks, so that memory does not grow with their length, and no samples are kept.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from lhotse import Recording
from lhotse.cut import Cut
from lhotse.utils import compute_num_samples

from slimasr.data.audio.file import open_audio
from slimasr.data.audio.recordings import AudioError, load_samples
from slimasr.progress import Progress

BLOCK_SAMPLES = 1 << 20
FRAMES_PER_SECOND = 40
"""Levels are measured in frames of 25 ms."""

LOUD_SHARE = 0.95
"""The level of an utterance is the one that this share of its frames do not exceed: that of its loud parts."""

FLAT_SAMPLES = 3
"""So many equal samples in a row at the highest or lowest value are clipped."""

FULL_SCALE = 0.999
"""Samples beyond it are equal: decoders of lossy formats overshoot full scale where their input was clipped."""

LEAST_CLIPPED = 10
"""An utterance with fewer samples in flat tops is not clipped: coarse steps, as of 8 bits, make a few by chance."""

# One and a half steps of 16 bits.
_EQUAL = 1.5 / 2**15
# Quieter peaks consist of few steps, which repeat without any clipping.
_LEAST_PEAK = 0.05
_FLOOR_DB = -120.0


@dataclass(frozen=True, slots=True)
class Sound:
    """What the samples of one utterance show.

    Attributes:
        digest: 64 bits of a digest of the decoded samples; equal in all lossless formats.
        level: of the loud parts (`LOUD_SHARE`), in dB of a full-scale square wave; -120 for digital silence.
        clipped: share of the samples that lie in flat tops.
        encoding: container and encoding of the file, as libsndfile names them; empty if the samples are in no file.
    """

    digest: int
    level: float
    clipped: float
    encoding: str = ""


def measure_sounds(
    cuts: Iterable[Cut], num_threads: int, progress: Progress, total: int | None = None, label: str = ""
) -> Iterator[tuple[Cut, Sound | AudioError | None]]:
    """Read the audio of cuts in threads, and yield each cut, in order, with its figures or the reason why it has none.

    Cuts without audio, such as a sample of shards, have neither figures nor an error.

    Args:
        total: number of cuts, for the progress that is shown.
    """
    with ThreadPoolExecutor(num_threads) as pool:
        waiting: deque[tuple[Cut, Future[Sound | AudioError | None]]] = deque()
        for cut in progress(cuts, total, label):
            waiting.append((cut, pool.submit(_sound_or_error, cut)))
            # Few cuts wait at a time, so that memory does not grow with the set.
            if len(waiting) >= 4 * num_threads:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def sound_of(cut: Cut) -> Sound:
    """Read a cut's audio at the sampling rate of its file and measure it.

    Raises:
        AudioError: the audio is missing, damaged or out of range.
    """
    recording: Recording | None = getattr(cut, "recording", None)
    if recording is None:
        raise AudioError(f"{cut.id}: has no audio")
    source = recording.sources[0]
    if len(recording.sources) == 1 and source.type == "file":
        return _of_file(cut, Path(source.source))
    return measure([load_samples(cut)], cut.sampling_rate)


def measure(blocks: Iterable[np.ndarray], rate: int, encoding: str = "") -> Sound:
    """Measure an utterance.

    Args:
        blocks: its samples in order, (num_channels, T) float32 each; full scale is [-1, 1].
        rate: sampling rate in Hz.
        encoding: of its file, for the result.
    """
    digest = blake2b(digest_size=8)
    levels: list[np.ndarray] = []
    peaks: list[tuple[float, int]] = []
    samples = 0
    for block in blocks:
        digest.update(block.tobytes())
        samples += block.size
        for channel in block:
            if len(channel):
                levels.append(_frame_powers(channel, rate))
                peaks.append(_flat_samples(channel))
    # Only flat tops at the peak of the whole utterance are clipped, not those that a block has at its own.
    highest = max((peak for peak, _ in peaks), default=0.0)
    clipped = sum(flat for peak, flat in peaks if peak >= min(highest, FULL_SCALE) - _EQUAL)
    power = float(np.quantile(np.concatenate(levels), LOUD_SHARE)) if levels else 0.0
    level = 10.0 * math.log10(power) if power > 0.0 else _FLOOR_DB
    share = clipped / samples if clipped >= LEAST_CLIPPED else 0.0
    return Sound(int.from_bytes(digest.digest(), "big"), max(level, _FLOOR_DB), share, encoding)


def _sound_or_error(cut: Cut) -> Sound | AudioError | None:
    try:
        return sound_of(cut) if cut.has_recording else None
    except AudioError as error:
        return error


def _of_file(cut: Cut, path: Path) -> Sound:
    channel = getattr(cut, "channel", 0)
    channels = list(channel) if isinstance(channel, (list, tuple)) else [channel]
    with open_audio(path) as file:
        rate = file.sampling_rate
        if max(channels) >= file.num_channels:
            raise AudioError(f"{path}: has {file.num_channels} channels, so that there is no channel {max(channels)}")
        if cut.start > 0:
            file.seek(compute_num_samples(cut.start, rate))
        length = compute_num_samples(cut.duration, rate)
        sizes = [min(BLOCK_SAMPLES, length - start) for start in range(0, length, BLOCK_SAMPLES)]
        return measure((file.read(size)[channels] for size in sizes), rate, file.encoding)


def _frame_powers(samples: np.ndarray, rate: int) -> np.ndarray:
    """Mean power of every frame of a channel, without its constant part; samples behind the last frame are left out."""
    size = min(len(samples), max(1, rate // FRAMES_PER_SECOND))
    kept = samples[: len(samples) // size * size].astype(np.float64) - float(samples.mean(dtype=np.float64))
    powers: np.ndarray = np.square(kept.reshape(-1, size)).mean(axis=1)
    return powers


def _flat_samples(samples: np.ndarray) -> tuple[float, int]:
    """The peak of a channel, and how many of its samples lie in flat tops at its highest or lowest value."""
    highest, lowest = float(samples.max()), float(samples.min())
    peak = max(highest, -lowest)
    if peak < _LEAST_PEAK:
        return peak, 0
    flat = 0
    for values, top in ((samples, highest), (-samples, -lowest)):
        # A lowest value above the peak's half is no clipping of both sides, but the smaller side of natural speech.
        if top >= 0.5 * peak:
            flat += _in_runs(values >= min(top - _EQUAL, FULL_SCALE))
    return peak, flat


def _in_runs(at_top: np.ndarray) -> int:
    """How many true values lie in runs of at least `FLAT_SAMPLES`."""
    # Runs begin and end where the value changes; false values at both ends close the runs there.
    edges = np.flatnonzero(np.diff(np.concatenate(([0], at_top.astype(np.int8), [0]))))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= FLAT_SAMPLES].sum())
