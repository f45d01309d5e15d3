"""Mask learning (paper 4): a subnet by index sets against its own model, and the steps of step 1 and step 2.

A CTC Conformer with the modules of paper 4, at 96 or 384 channels. The subnets are those of random scores, so that
modules are kept whole, in part and not at all. A step is the trainer's: SpecAugment, passes, optimiser. One thread,
processor time; the sides take turns, and the fastest turn of each counts. Peak memory is what one step adds to a
process of its own (Linux).

    python tools/bench/mask_learning.py [--turns N] [--tiny] [--no-memory] [size ...]
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from common import added_peak_megabytes, report, resident_bytes
from step import fastest
from steps import noise_batch

from slimasr.config.load import parse_config
from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.methods import build_method
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.methods.mask_learning import MaskLearning
from slimasr.models.build import build_model, head_names
from slimasr.objective.objective import Objective, loss_weights
from slimasr.supernet.build import build_space
from slimasr.supernet.subnet import Subnet
from slimasr.training.distributed import World
from slimasr.training.step import Stepper

ENCODERS = {
    "96": {"d_model": 96, "num_layers": 6, "num_heads": 4, "head_dim": 24, "ffn_dim": 384, "kernel_size": 15},
    "384": {"d_model": 384, "num_layers": 4, "num_heads": 6, "head_dim": 64, "ffn_dim": 1536, "kernel_size": 31},
    "tiny": {"d_model": 16, "num_layers": 3, "num_heads": 2, "head_dim": 8, "ffn_dim": 32, "kernel_size": 3},
}
BATCHES = {"96": (8, 3), "384": (8, 5), "tiny": (2, 1)}
"""Utterances of a batch, and their length in seconds."""

BLOCKS = {"96": (2, 4), "384": (2, 3), "tiny": (1, 2)}
"""The budgets are what so many blocks cost."""

CHANNELS = {"96": 32, "384": 64, "tiny": 4}
"""Channels of the convolutions of the front end."""

TOTAL_STEPS = 1000
BEFORE, AFTER = 300, 800
"""Steps of step 1 and of step 2."""

INDEXED_AGAINST_OWN, INDEXED_OVER_SHARE, STEP_1, STEP_2_BESIDES_SUBNETS = 1.10, 0.1, 1.10, 1.2


class Passes(Method):
    """Runs some subnets on the whole batch."""

    subnets: tuple[Subnet, ...] = (Subnet(),)

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        return [Pass(subnet, self.losses) for subnet in self.subnets]


def config_of(size: str) -> Config:
    """Return the recipe of mask learning with a CTC Conformer of one size."""
    paper = {"order": ["ffn1", "conv", "heads", "ffn2"], "conv_norm": "layer", "attention": "none"}
    encoder: dict[str, Any] = {"kind": "conformer", **ENCODERS[size], **paper}
    budgets = [{"blocks": number} for number in BLOCKS[size]]
    return parse_config(
        {
            "name": "bench",
            "data": {"corpus": "an4"},
            "tokenizer": {"vocab_size": 79},
            "model": {"kind": "ctc", "frontend": {"channels": CHANNELS[size]}, "encoder": encoder},
            "space": {"kind": "learnt"},
            "method": {"kind": "mask_learning", "budgets": budgets, "cost_seconds": float(BATCHES[size][1])},
            "loss": {"per": "frame"},
            "training": {"clip_norm": None},
        }
    )


def made(config: Config) -> tuple[Objective, MaskLearning]:
    """Build model and method; the scores are such that rows choose groups."""
    torch.manual_seed(0)
    model = build_model(config.model, config.loss, config.tokenizer.vocab_size, (1.0,), head_names(config))
    method = build_method(config, build_space(config), model)
    assert isinstance(method, MaskLearning)
    with torch.no_grad():
        method.get_parameter("learner.scores").normal_()
    return Objective(model, config.loss).train(), method


def context(step: int) -> StepContext:
    """Return a place in the run."""
    return StepContext(step, 1, TOTAL_STEPS, random.Random(step))


@dataclass(frozen=True)
class Side:
    """One kind of step.

    Attributes:
        stepper: takes the step.
        context: its place in the run.
        shares: MACs of the learnt subnets, the largest first, as shares of the whole.
    """

    stepper: Stepper
    context: StepContext
    shares: list[float]

    def step(self, batch: Batch) -> object:
        """Take the step, with its optimiser."""
        return self.stepper.step([batch], self.context)

    def passes(self, batch: Batch) -> object:
        """Run the forward and backward passes of the step alone."""
        return self.stepper.gradients([batch], self.context)


def side_of(size: str, side: str) -> Side:
    """Return the step of one side.

    Args:
        size: size of the encoder.
        side: ``full``, ``two full`` passes, ``indexed`` (a subnet by index sets), ``own`` (its extracted model),
            ``step 1`` or ``step 2``.
    """
    config = config_of(size)
    objective, method = made(config)
    start = context(BEFORE if side == "step 1" else AFTER)
    if side != "step 1":
        method.after_step(objective, start)
    whole = objective.model.count().macs
    shares = [objective.model.count(subnet).macs / whole for subnet in method.subnets()]
    trained: Method = method
    if side not in ("step 1", "step 2"):
        trained = Passes(method.space, loss_weights(config))
        trained.subnets = {"two full": (Subnet(),) * 2, "indexed": (method.subnets()[-1],)}.get(side, (Subnet(),))
    if side == "own":
        objective = Objective(objective.model.extract(method.subnets()[-1]), config.loss).train()
    return Side(Stepper(objective, trained, config.training, config.seed, World()), start, shares)


def batch_of(size: str) -> Batch:
    """Make the batch of a step."""
    return noise_batch(config_of(size), *BATCHES[size])


def report_times(size: str, turns: int) -> None:
    """Time the steps of all sides in turns, and print their ratios."""
    batch = batch_of(size)
    sides = {name: side_of(size, name) for name in ("full", "two full", "indexed", "own", "step 1", "step 2")}
    calls = {name: partial(side.step, batch) for name, side in sides.items()}
    calls |= {f"{name}, passes": partial(sides[name].passes, batch) for name in ("indexed", "own")}
    seconds = dict(zip(calls, fastest(list(calls.values()), turns), strict=True))
    larger, smaller = sides["step 2"].shares

    def compare(what: str, ours: str, other: str, target: float, **extra: float) -> None:
        name = f"d {size}: {what}, processor seconds"
        report(name, seconds[ours], seconds[other], seconds[ours] / seconds[other], target, **extra)

    own = "a subnet by index sets against its own model"
    compare(f"passes of {own}", "indexed, passes", "own, passes", INDEXED_AGAINST_OWN)
    # The optimiser moves the weights of the whole encoder on one side.
    compare(f"a step of {own}", "indexed", "own", INDEXED_AGAINST_OWN)
    share_target = smaller + INDEXED_OVER_SHARE
    compare("a step of a subnet by index sets against the full step", "indexed", "full", share_target, macs=smaller)
    compare("a step of step 1 against two full passes", "step 1", "two full", STEP_1)
    # The seed of this step may leave out modules of the whole encoder, which costs less.
    subnets = larger + smaller
    compare("a step of step 2 against the full step", "step 2", "full", STEP_2_BESIDES_SUBNETS + subnets, macs=subnets)


def added_peak_bytes(size: str, side: str) -> int:
    """Return the peak resident memory that one step adds; to be called once, in a process of its own."""
    step = side_of(size, side).step
    # Libraries, thread pools and the optimiser's state do not count.
    step(noise_batch(config_of(size), 1, 1))
    batch = batch_of(size)
    before = resident_bytes("VmRSS")
    step(batch)
    return resident_bytes("VmHWM") - before


def report_memory(size: str) -> None:
    """Print the memory that a step of step 1 adds beyond two full passes, against one copy of the weights."""
    peaks = {side: added_peak_megabytes(__file__, side, size) for side in ("two full", "step 1")}
    objective, _ = made(config_of(size))
    weights = sum(p.numel() * p.element_size() for p in objective.model.encoder.parameters()) / 1e6
    more = peaks["step 1"] - peaks["two full"]
    report(f"d {size}: memory of step 1 beyond two full passes, MB", more, weights, more / weights, 1.0, **peaks)


def main() -> None:
    """Run the comparisons, or one memory measurement in a child process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", metavar="size", help="96, 384 (default: both)")
    parser.add_argument("--turns", type=int, default=7, help="timed steps of each side (default: 7)")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to see whether everything runs")
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory")
    parser.add_argument("--peak-bytes-of", metavar="SIDE", help="print only the memory that one step adds, in bytes")
    options = parser.parse_args()
    sizes = options.sizes or (["tiny"] if options.tiny else ["96", "384"])
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if options.peak_bytes_of:
        print(added_peak_bytes(sizes[0], options.peak_bytes_of))
        return
    for size in sizes:
        report_times(size, options.turns)
        if not options.no_memory:
            report_memory(size)


if __name__ == "__main__":
    main()
