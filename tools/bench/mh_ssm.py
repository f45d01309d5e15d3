"""Time and peak memory of an MH-SSM module and of self-attention of equal width, and how they grow with length.

Each side is the module and its layer norm, forward and backward, without the feed-forward module that both kinds of
layer have: a bidirectional MH-SSM with one head, two stacks and 32 states (paper 2) against attention with relative
positions and eight heads. The input is one utterance in float32. The sides take turns, so that other work on the
machine disturbs both alike. Each peak of memory is measured in a process of its own (Linux).
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable

import torch
from common import added_peak_megabytes, median_seconds, report, resident_bytes

from slimasr.config.encoders import MhSsmConfig
from slimasr.elastic.attention import ElasticAttention
from slimasr.elastic.multi_head_ssm import MultiHeadSsm
from slimasr.elastic.norm import ElasticLayerNorm
from slimasr.encoders.frontend import sinusoids
from slimasr.encoders.mh_ssm import ssm_options

SIDES = ("mh_ssm", "attention")
HEADS = 8


def make_step(side: str, frames: int, dim: int) -> Callable[[], None]:
    """Return a function that runs a forward and a backward pass over ``frames`` frames."""
    torch.manual_seed(0)
    norm = ElasticLayerNorm(dim, (dim,), "per_width")
    x = torch.randn(1, frames, dim, requires_grad=True)
    padding = torch.zeros(1, frames, dtype=torch.bool)
    ssm = MultiHeadSsm(dim, 1, ssm_options(MhSsmConfig(d_model=dim)), (dim,))
    attention = ElasticAttention(dim, HEADS, dim // HEADS, dim, "head_count", 0.0)

    def step() -> None:
        if side == "mh_ssm":
            out = ssm(norm(x), padding)
        else:
            positions = sinusoids(torch.arange(frames, -frames, -1), dim)
            out = attention(norm(x), padding, positions, 1.0)
        out.sum().backward()

    return step


def seconds(frames: int, dim: int, repeats: int) -> list[float]:
    """Return the median time of both sides."""
    steps = [make_step(side, frames, dim) for side in SIDES]
    for step in steps:
        step()
    turns = [[median_seconds(step, repeats=1, warm_ups=0) for step in steps] for _ in range(repeats)]
    return [statistics.median(times) for times in zip(*turns, strict=True)]


def added_peak_bytes(side: str, frames: int, dim: int) -> int:
    """Return the peak resident memory that one step adds; to be called once, in a process of its own."""
    step = make_step(side, frames, dim)
    make_step(side, 8, dim)()  # libraries and thread pools do not count
    before = resident_bytes("VmRSS")
    step()
    return resident_bytes("VmHWM") - before


def exponent(short: tuple[int, float], long: tuple[int, float]) -> float:
    """Return p of a quantity that grows as T^p between two lengths.

    Args:
        short, long: length T and quantity.
    """
    return math.log(long[1] / short[1]) / math.log(long[0] / short[0])


def main() -> None:
    """Measure all lengths and the growth from the shortest to the longest, or one peak of memory in a child process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[250, 1000, 4000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak-bytes-of", choices=SIDES, help="print only the memory that one step adds, in bytes")
    options = parser.parse_args()
    lengths = sorted(options.frames)
    dim = options.dim
    if options.peak_bytes_of:
        print(added_peak_bytes(options.peak_bytes_of, lengths[-1], dim))
        return
    results = {}
    for frames in lengths:
        times = seconds(frames, dim, options.repeats)
        arguments = ("--frames", str(frames), "--dim", str(dim))
        peaks = [added_peak_megabytes(__file__, side, *arguments) for side in SIDES]
        results[frames] = (times, peaks)
        extra = {"ours_peak_mb": peaks[0], "other_peak_mb": peaks[1], "peak_ratio": peaks[0] / peaks[1]}
        report(f"MH-SSM against attention, T {frames}, seconds", times[0], times[1], times[0] / times[1], None, **extra)
    if len(lengths) == 1:
        return
    first, last = lengths[0], lengths[-1]
    for index, what in enumerate(("time", "peak memory")):
        ours, other = (exponent((first, results[first][index][i]), (last, results[last][index][i])) for i in range(2))
        report(f"MH-SSM against attention, p in {what} ~ T^p, T {first} to {last}", ours, other, ours / other, None)


if __name__ == "__main__":
    main()
