"""A step of collaborative training: shared against unshared branches, and against a step of one separate model.

The tree of paper 3 at half its width: 20, 18, 14 and 10 layers of which the first 6 are shared, 500 units; 8 utterances
of 10 s with 50 labels. A step is the trainer's, with the restricted loss, and with cross-entropy and divergence of the
posteriors of 1000 states. One thread, processor time; the sides take turns, and the fastest turn of each counts. Peak
memory is what one step adds to a process of its own (Linux).

    python tools/bench/collaborative.py [--turns N] [--tiny] [--no-memory]
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch
from common import added_peak_megabytes, report, resident_bytes
from flops import count_flops
from step import fastest
from steps import make_step, noise_batch

from slimasr.config.load import load_config
from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch

PRESET = Path(__file__).resolve().parents[2] / "egs" / "librispeech" / "conf" / "collaborative.yaml"
HALVED = (
    "model.encoder.d_model=256",
    "model.encoder.num_heads=4",
    "model.encoder.ffn_dim=1024",
    "model.predictor.dim=256",
    "model.predictor.embedding_dim=256",
    "model.joiner.dim=512",
    "tokenizer.vocab_size=500",
    "loss.auxiliary.hidden_dim=256",
    "loss.auxiliary.num_states=1000",
    "training.precision=float32",
)
TINY = (
    "model.encoder.num_layers=4",
    "model.encoder.tree.depths=[4, 3, 2]",
    "model.encoder.tree.shared=1",
    "model.encoder.d_model=16",
    "model.encoder.num_heads=2",
    "model.encoder.ffn_dim=32",
    "model.predictor.dim=16",
    "model.predictor.embedding_dim=16",
    "model.joiner.dim=16",
    "loss.auxiliary.hidden_dim=16",
)
SIDES = {
    "separate": ("method.kind=separate", "method.subnet=max"),
    "shared": (),
    "unshared": ("model.encoder.tree.shared=0",),
}
SHARED_AGAINST_UNSHARED, SHARED_AGAINST_SEPARATE, PEAK_AGAINST_SEPARATE = 0.80, 2.6, 1.2
UTTERANCES, SECONDS, TOKENS = 8, 10, 50
TINY_BATCH = (2, 1, 3)


def config_of(side: str, tiny: bool) -> Config:
    """Load the recipe of one side; ``tiny`` models only show that everything runs."""
    return load_config(PRESET, (*HALVED, *(TINY if tiny else ()), *SIDES[side]))


def batch_of(config: Config, tiny: bool) -> Batch:
    """Make the batch of a step."""
    return noise_batch(config, *(TINY_BATCH if tiny else (UTTERANCES, SECONDS, TOKENS)))


def added_peak_bytes(side: str, tiny: bool) -> int:
    """Return the peak resident memory that one step adds; to be called once, in a process of its own."""
    config = config_of(side, tiny)
    step = make_step(config)
    # Libraries, thread pools and the optimiser's state do not count.
    step(noise_batch(config, 2, 1))
    batch = batch_of(config, tiny)
    before = resident_bytes("VmRSS")
    step(batch)
    return resident_bytes("VmHWM") - before


def report_times(turns: int, tiny: bool) -> None:
    """Time the steps of all sides in turns, and print how many times as long that with shared layers takes."""
    configs = {side: config_of(side, tiny) for side in SIDES}
    steps = {side: partial(make_step(config), batch_of(config, tiny)) for side, config in configs.items()}
    seconds = dict(zip(steps, fastest(list(steps.values()), turns), strict=True))
    products = {side: count_flops(step).products for side, step in steps.items()}
    bounds = {"unshared": SHARED_AGAINST_UNSHARED, "separate": SHARED_AGAINST_SEPARATE}
    for side, target in bounds.items():
        report(
            f"collaborative step, shared layers against {side}, processor seconds",
            seconds["shared"],
            seconds[side],
            seconds["shared"] / seconds[side],
            target,
            arithmetic=products["shared"] / products[side],
        )


def report_memory(tiny: bool) -> None:
    """Print the memory that a step adds against that of a separate model's step."""
    arguments = ("--tiny",) if tiny else ()
    peaks = {side: added_peak_megabytes(__file__, side, *arguments) for side in SIDES}
    for side in ("shared", "unshared"):
        target = PEAK_AGAINST_SEPARATE if side == "shared" else None
        title = f"collaborative step, {side} layers against separate, memory that a step adds, MB"
        report(title, peaks[side], peaks["separate"], peaks[side] / peaks["separate"], target)


def main() -> None:
    """Run the comparisons, or one memory measurement in a child process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5, help="timed steps of each side (default: 5)")
    parser.add_argument("--tiny", action="store_true", help="tiny models, to see whether everything runs")
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory")
    parser.add_argument("--peak-bytes-of", choices=SIDES, help="print only the memory that one step adds, in bytes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak_bytes_of:
        print(added_peak_bytes(options.peak_bytes_of, options.tiny))
        return
    report_times(options.turns, options.tiny)
    if not options.no_memory:
        report_memory(options.tiny)


if __name__ == "__main__":
    main()
