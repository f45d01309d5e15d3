"""One slimmable step (four widths) against one step of the separate full-width model, on the same batch.

A step is the trainer's own: SpecAugment, forward and backward passes with the preset's losses, clipping, AdamW.
The batch holds 8 utterances of 10 s of noise, each labelled with three tokens a second. Steps of the two sides
take turns, so that other work on the machine disturbs both alike.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from common import median_seconds, report

from slimasr.config.load import load_config
from slimasr.config.schema import Config
from slimasr.data.batch import Batch
from slimasr.experiment import resolve_separate
from slimasr.methods import build_method
from slimasr.methods.base import StepContext
from slimasr.methods.objective import Objective
from slimasr.models.build import build_model
from slimasr.models.transducer import FRAMES_PER_SECOND
from slimasr.supernet.space import build_space
from slimasr.training.distributed import World
from slimasr.training.step import Stepper

EGS = Path(__file__).resolve().parents[2] / "egs"
UTTERANCES, SECONDS, TOKENS = 8, 10, 30
TOTAL_STEPS = 1000
REPEATS = 3
TARGET_30M = 2.2


def make_batch(config: Config) -> Batch:
    """Noise with random labels; blank and the other special tokens are not among them."""
    generator = torch.Generator().manual_seed(0)
    frames = SECONDS * FRAMES_PER_SECOND
    names = tuple(f"noise-{number}" for number in range(UTTERANCES))
    return Batch(
        x=torch.randn(UTTERANCES, frames, config.model.num_mel_bins, generator=generator),
        x_lens=torch.full((UTTERANCES,), frames),
        y=torch.randint(3, config.tokenizer.vocab_size, (UTTERANCES, TOKENS), generator=generator),
        y_lens=torch.full((UTTERANCES,), TOKENS),
        ids=names,
        texts=names,
    )


def make_step(config: Config) -> Callable[[], object]:
    """A call that takes one optimiser step, past the warm-up of the losses."""
    config, _ = resolve_separate(config)
    space = build_space(config.space)
    torch.manual_seed(0)
    model = build_model(config.model, config.loss, config.tokenizer.vocab_size, space.widths)
    objective, method = Objective(model, config.loss).train(), build_method(config, space)
    stepper = Stepper(objective, method, config.training, config.seed, TOTAL_STEPS, World())
    context = StepContext(TOTAL_STEPS // 2, 1, TOTAL_STEPS, random.Random(0))
    batch = make_batch(config)
    return lambda: stepper.step([batch], context)


def measure(name: str, preset: Path, target: float | None) -> None:
    """Time both sides and print the result."""
    separate = ("method.kind=separate", "method.subnet='1.0'")
    steps = (make_step(load_config(preset)), make_step(load_config(preset, separate)))
    for step in steps:
        step()
    turns = [[median_seconds(step, repeats=1, warm_ups=0) for step in steps] for _ in range(REPEATS)]
    ours, other = (statistics.median(seconds) for seconds in zip(*turns, strict=True))
    report(f"slimmable against separate step, {name}, seconds", ours, other, ours / other, target)


def main() -> None:
    """Both presets."""
    measure("30 M preset, pruned loss, V 500", EGS / "librispeech/conf/slimmable_30M_bpe500.yaml", TARGET_30M)
    measure("AN4 preset, full lattice and CTC", EGS / "an4/conf/slimmable.yaml", None)


if __name__ == "__main__":
    main()
