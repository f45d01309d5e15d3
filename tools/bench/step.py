"""Training steps: how near they come to the machine's speed, how their times compare, and how much memory they add.

A step is that of the trainer: SpecAugment, forward and backward passes with the preset's losses, clipping, optimiser.
Everything runs on one thread, and time is processor time. The ``ratio`` of a step is

    seconds * speed of a matrix product / arithmetic,

the inverse of the share of that speed which the step reaches: 1 would be a step that consists of large matrix products
alone. Arithmetic is counted by `flops`; the speed is that of products of 512 to 2048 rows and columns, measured in the
same run. The steps of a group take turns, so that other work on the machine disturbs them alike, and the fastest turn
of each counts.

    python tools/bench/step.py [--no-memory] [group ...]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from common import added_peak_megabytes, report, resident_bytes
from flops import Flops, count_flops
from steps import make_step, noise_batch

from slimasr.config.load import load_config
from slimasr.config.schema import Config

EGS = Path(__file__).resolve().parents[2] / "egs"
SEPARATE = ("method.kind=separate", "method.subnet='1.0'")
# The MH-SSM transducer of paper 2 with half its layers and FFN channels
HALVED = (
    "model.encoder.num_layers=8",
    "model.encoder.ffn_dim=2048",
    "space.depths=[8, 6, 4]",
    "space.units.ffn=[2048, 1024, 512, 256]",
    "tokenizer.vocab_size=500",
    "training.precision=float32",
)
MATRIX_SIZES = (512, 1024, 2048)


@dataclass(frozen=True)
class Size:
    """A batch of noise: utterances, their length, and how many labels each has; ``turns`` steps are timed."""

    utterances: int
    seconds: float
    tokens: int
    turns: int


AN4 = Size(8, 3, 25, turns=15)
LONG = Size(8, 10, 30, turns=3)
LARGE = Size(16, 10, 30, turns=3)


@dataclass(frozen=True)
class Side:
    """One kind of step.

    Attributes:
        preset: recipe, relative to ``egs``.
        settings: changes to it.
        target: bound on the ratio to the speed of matrix products; None = there is none.
        times: bound on the time of the group's first step that this one may take; None = there is none.
    """

    preset: str
    settings: tuple[str, ...] = ()
    target: float | None = None
    times: float | None = None


GROUPS: dict[str, tuple[Size, dict[str, Side]]] = {
    "an4": (
        AN4,
        {
            "separate, 1 M Conformer": Side("an4/conf/slimmable.yaml", SEPARATE, target=1.8),
            "slimmable, 4 widths": Side("an4/conf/slimmable.yaml", target=2.1, times=2.35),
            "todm, MH-SSM, taught": Side("an4/conf/todm.yaml", target=3.6),
            "todm, Conformer, taught": Side("an4/conf/todm_conformer.yaml", target=2.3),
        },
    ),
    "30M": (
        LONG,
        {
            "separate, 30 M Conformer": Side("librispeech/conf/slimmable_30M_bpe500.yaml", SEPARATE, target=1.33),
            "slimmable, 30 M Conformer": Side("librispeech/conf/slimmable_30M_bpe500.yaml", times=2.0),
        },
    ),
    "34M": (
        LARGE,
        {
            "separate, 34 M MH-SSM": Side("librispeech/conf/todm_separate.yaml", HALVED),
            "sandwich, 34 M MH-SSM": Side("librispeech/conf/todm_dropout.yaml", HALVED, times=1.3),
            "taught sandwich, 34 M MH-SSM": Side("librispeech/conf/todm_kl.yaml", HALVED, times=1.35),
        },
    ),
}


def config_of(side: Side) -> Config:
    """Load the recipe of one side."""
    return load_config(EGS / side.preset, side.settings)


def step_of(side: Side, size: Size) -> Callable[[], object]:
    """Build the step of one side on a batch of noise."""
    config = config_of(side)
    batch = noise_batch(config, size.utterances, size.seconds, size.tokens)
    return partial(make_step(config), batch)


def processor_seconds(call: Callable[[], object]) -> float:
    """Return the processor seconds of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def fastest(calls: Sequence[Callable[[], object]], turns: int) -> list[float]:
    """Return the smallest processor seconds of each call, after one call that does not count."""
    for call in calls:
        call()
    rounds = [[processor_seconds(call) for call in calls] for _ in range(turns)]
    return [min(seconds) for seconds in zip(*rounds, strict=True)]


def matrix_speed() -> float:
    """Return the floating-point operations per second of float32 matrix products, of which half are additions."""
    seconds = 0.0
    operations = 0
    for size in MATRIX_SIZES:
        a, b = torch.randn(2, size, size).unbind()
        out = torch.empty(size, size)
        seconds += fastest([partial(torch.mm, a, b, out=out)], turns=5)[0]
        operations += 2 * size**3
    return operations / seconds


def time_group(size: Size, sides: dict[str, Side]) -> None:
    """Time the steps of one group, and print each against the speed of matrix products and against the first one."""
    steps = {name: step_of(side, size) for name, side in sides.items()}
    speed = matrix_speed()
    seconds = dict(zip(steps, fastest(list(steps.values()), size.turns), strict=True))
    # The machine may have been disturbed before; the higher speed is nearer to the machine's own.
    speed = max(speed, matrix_speed())
    counts = {name: count_flops(step) for name, step in steps.items()}
    first = next(iter(sides))
    for name, side in sides.items():
        report_speed(name, side, seconds[name], counts[name], speed)
        if side.times is not None:
            arithmetic = counts[name].products / counts[first].products
            ratio = seconds[name] / seconds[first]
            label = f"{name}, against {first}, processor seconds"
            report(label, seconds[name], seconds[first], ratio, side.times, arithmetic=arithmetic)


def report_speed(name: str, side: Side, seconds: float, count: Flops, speed: float) -> None:
    """Print the time of a step against what its arithmetic would take at the speed of matrix products."""
    ideal = count.products / speed
    report(
        f"{name}, against matrix products, processor seconds",
        seconds,
        ideal,
        seconds / ideal,
        side.target,
        counted_gflop=count.products / 1e9,
        fft_gflop=count.transforms / 1e9,
        matrix_gflop_per_second=speed / 1e9,
    )


def report_memory(size: Size, sides: dict[str, Side]) -> None:
    """Print what one step of each side adds to the memory of its process, against the first side."""
    peaks = {name: added_peak_megabytes(__file__, name) for name in sides}
    first = next(iter(sides))
    for name, peak in peaks.items():
        report(f"{name}, memory that a step adds, MB", peak, peaks[first], peak / peaks[first], None)


def added_peak_bytes(name: str) -> int:
    """Return the peak resident memory that one step adds; to be called once, in a process of its own."""
    size, side = next((size, sides[name]) for size, sides in GROUPS.values() if name in sides)
    config = config_of(side)
    step = make_step(config)
    # Libraries, thread pools and the optimiser's state do not count.
    step(noise_batch(config, 4, 1))
    batch = noise_batch(config, size.utterances, size.seconds, size.tokens)
    before = resident_bytes("VmRSS")
    step(batch)
    return resident_bytes("VmHWM") - before


def main() -> None:
    """Run the groups, or one memory measurement in a child process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="group", help=f"{', '.join(GROUPS)}; default: all")
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory")
    parser.add_argument("--peak-bytes-of", metavar="SIDE", help="print only the memory that one step adds, in bytes")
    options = parser.parse_args()
    unknown = [name for name in options.groups if name not in GROUPS]
    if unknown:
        parser.error(f"there is no group {unknown[0]}; choose from {', '.join(GROUPS)}")
    torch.set_num_threads(1)
    if options.peak_bytes_of:
        print(added_peak_bytes(options.peak_bytes_of))
        return
    for name in options.groups or GROUPS:
        size, sides = GROUPS[name]
        time_group(size, sides)
        if not options.no_memory:
            report_memory(size, sides)


if __name__ == "__main__":
    main()
