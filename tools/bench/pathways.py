"""Pathways (paper 5): a training step with masks on every prunable weight against one without, and one adaptation.

The Conformer of the AN4 recipes with an LSTM predictor and layer norms, four languages, random masks at 70 %. A step is
the trainer's: SpecAugment, passes, clipping, optimiser. One thread, processor time; the sides take turns, and the
fastest turn of each counts. Peak memory is what one step adds to a process of its own (Linux).

    python tools/bench/pathways.py [--turns N] [--tiny] [--no-memory]
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from common import added_peak_megabytes, report, resident_bytes
from step import fastest
from steps import TOTAL_STEPS, noise_batch

from slimasr.config.load import load_config
from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.elastic.blocks import select
from slimasr.methods import build_method
from slimasr.methods.base import StepContext
from slimasr.methods.masking import chosen, pathways_of, replace_masks, set_zero, unused
from slimasr.methods.pathways import PathwayTraining
from slimasr.models.base import SpeechModel
from slimasr.models.build import build_model, head_names, pathway_spec
from slimasr.models.pathways import prunable_matrices
from slimasr.objective.objective import Objective
from slimasr.supernet.build import build_space
from slimasr.training.distributed import World
from slimasr.training.step import Stepper

PRESET = Path(__file__).resolve().parents[2] / "egs" / "an4" / "conf" / "slimmable.yaml"
LANGUAGES = ("en", "fr", "it", "nl")
SPARSITY = 0.7
MODEL = (
    "model.encoder.conv_norm=layer",
    "model.predictor={kind: lstm, dim: 96, num_layers: 1, embedding_dim: 96}",
    "training.average_start=0.8",
    "space.widths=[1.0]",
)
TINY = ("model.encoder.d_model=16", "model.encoder.head_dim=4", "model.encoder.ffn_dim=32", "model.predictor.dim=16")
SPACE = ("space.kind=pathways", f"space.languages=[{', '.join(LANGUAGES)}]", "method.kind=pathways", "method.levels=[]")
SIDES: dict[str, tuple[str, ...]] = {
    "dense": ("method.kind=separate",),
    "fixed masks": (*SPACE, "method.masks=fixed"),
    "adaptive masks": (*SPACE, "method.masks=adaptive"),
    "one mask": (*SPACE, "space.languages=[fr]", "method.masks=fixed"),
}
"""Kinds of steps -> settings besides those of the model."""

STEP_TARGET, ADAPTATION_TARGET = 1.15, 1.0


@dataclass(frozen=True)
class Side:
    """One kind of step: its model, and what takes the step on a batch."""

    model: SpeechModel
    stepper: Stepper
    context: StepContext

    def step(self, batch: Batch) -> object:
        """Take the step."""
        return self.stepper.step([batch], self.context)


def config_of(side: str, tiny: bool) -> Config:
    """Return the recipe of one side."""
    return load_config(PRESET, [*MODEL, *(TINY if tiny else ()), *SIDES[side]])


def side_of(side: str, tiny: bool) -> Side:
    """Build model and method of one side, with random masks."""
    config = config_of(side, tiny)
    space = build_space(config)
    torch.manual_seed(0)
    sizes = config.tokenizer.vocab_size, space.widths, head_names(config), pathway_spec(config)
    model = build_model(config.model, config.loss, *sizes)
    method = build_method(config, space, model)
    if isinstance(method, PathwayTraining):
        draw_masks(model)
        method.history.levels.append((SPARSITY, 0))
    stepper = Stepper(Objective(model, config.loss).train(), method, config.training, config.seed, World())
    return Side(model, stepper, StepContext(TOTAL_STEPS // 2, 1, TOTAL_STEPS, random.Random(0)))


def draw_masks(model: SpeechModel) -> None:
    """Draw the masks of all pathways, and set to zero what none of them keeps."""
    pathways = pathways_of(model)
    for name in pathways.names:
        for matrix, weight in prunable_matrices(model).items():
            pathways.set_mask(name, matrix, select(torch.rand(weight.shape), SPARSITY, pathways.block))
    set_zero(model, unused(pathways))


def adaptation(side: Side) -> Callable[[], object]:
    """Return one adaptation of all matrices of a pathway: a choice by norms, and zeros outside of the masks.

    The optimiser's state is set to zero by the step in which it happens; this is a small part of the time.
    """
    model = side.model

    def adapt() -> None:
        replace_masks(pathways_of(model), "fr", chosen(model, "fr", SPARSITY, gains=True))
        set_zero(model, unused(pathways_of(model)))

    return adapt


def batch_of(tiny: bool) -> Batch:
    """Make the batch of a step, all of one language."""
    size = (2, 1, 5) if tiny else (8, 3, 25)
    return replace(noise_batch(config_of("dense", tiny), *size), key="fr")


def report_times(tiny: bool, turns: int) -> None:
    """Time all sides in turns, and print their ratios to a step without masks."""
    batch = batch_of(tiny)
    sides = {name: side_of(name, tiny) for name in SIDES}
    calls: dict[str, Callable[[], object]] = {name: partial(side.step, batch) for name, side in sides.items()}
    calls["adaptation"] = adaptation(sides["adaptive masks"])
    seconds = dict(zip(calls, fastest(list(calls.values()), turns), strict=True))
    masked = sum(weight.numel() for weight in prunable_matrices(sides["dense"].model).values())
    params = sides["dense"].model.count().params
    for name in [name for name in seconds if name != "dense"]:
        target = ADAPTATION_TARGET if name == "adaptation" else STEP_TARGET
        ratio = seconds[name] / seconds["dense"]
        label = f"{name} against a step without masks, processor seconds"
        report(label, seconds[name], seconds["dense"], ratio, target, prunable=masked, params=params)


def added_peak_bytes(side: str, tiny: bool) -> int:
    """Return the peak resident memory that one step adds; to be called once, in a process of its own."""
    made = side_of(side, tiny)
    batch = batch_of(tiny)
    # Libraries, thread pools and the optimiser's state do not count.
    made.step(batch.select([0]))
    before = resident_bytes("VmRSS")
    made.step(batch)
    return resident_bytes("VmHWM") - before


def report_memory(tiny: bool) -> None:
    """Print what a step with masks adds to memory beyond one without, against one copy of the prunable weights."""
    arguments = ["--tiny"] if tiny else []
    peaks = {side: added_peak_megabytes(__file__, side, *arguments) for side in SIDES}
    weights = sum(p.numel() * p.element_size() for p in prunable_matrices(side_of("dense", tiny).model).values()) / 1e6
    for side in [side for side in SIDES if side != "dense"]:
        more = peaks[side] - peaks["dense"]
        report(f"{side}: memory of a step beyond one without masks, MB", more, weights, more / weights, None, **peaks)


def main() -> None:
    """Run the comparisons, or one memory measurement in a child process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15, help="timed steps of each side (default: 15)")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to see whether everything runs")
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory")
    parser.add_argument("--peak-bytes-of", metavar="SIDE", help="print only the memory that one step adds, in bytes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if options.peak_bytes_of:
        print(added_peak_bytes(options.peak_bytes_of, options.tiny))
        return
    report_times(options.tiny, options.turns)
    if not options.no_memory:
        report_memory(options.tiny)


if __name__ == "__main__":
    main()
