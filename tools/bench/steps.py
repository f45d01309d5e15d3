"""A batch of noise and the trainer's step on it, which the benchmarks of whole training steps share."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch

from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.methods import build_method, resolve_config
from slimasr.methods.base import StepContext
from slimasr.models.base import FRAMES_PER_SECOND
from slimasr.models.build import build_model, head_names
from slimasr.objective.objective import Objective
from slimasr.supernet.build import build_space
from slimasr.training.distributed import World
from slimasr.training.step import Stepper

TOTAL_STEPS = 1000
TOKENS_PER_SECOND = 3


def noise_batch(config: Config, utterances: int, seconds: float, tokens: int | None = None) -> Batch:
    """Make a batch of noise with random labels, without blank and the other special tokens (ids 0 to 2).

    Ends of labels and targets of frames are there if the losses of the recipe need them.

    Args:
        tokens: labels of each utterance; None = three per second.
    """
    generator = torch.Generator().manual_seed(0)
    frames = round(seconds * FRAMES_PER_SECOND)
    if tokens is None:
        tokens = round(seconds * TOKENS_PER_SECOND)
    names = tuple(f"noise-{number}" for number in range(utterances))
    encoder_frames = config.model.frontend.output_frames(frames)
    ends = None
    if config.loss.transducer == "restricted":
        # One token ends in each of equal parts of an utterance.
        places = torch.arange(tokens) + torch.rand(utterances, tokens, generator=generator)
        ends = (places * encoder_frames / tokens).long()
    targets = None
    if config.loss.auxiliary is not None:
        classes = config.loss.auxiliary.num_states or config.tokenizer.vocab_size
        targets = torch.randint(classes, (utterances, encoder_frames), generator=generator)
    return Batch(
        x=torch.randn(utterances, frames, config.model.num_mel_bins, generator=generator),
        x_lens=torch.full((utterances,), frames),
        y=torch.randint(3, config.tokenizer.vocab_size, (utterances, tokens), generator=generator),
        y_lens=torch.full((utterances,), tokens),
        ids=names,
        texts=names,
        ends=ends,
        targets=targets,
    )


def make_step(config: Config, world: World = World()) -> Callable[[Batch], object]:
    """Return a function that takes one optimiser step on a batch, at half of the run and so after all warm-ups.

    A step is SpecAugment, forward and backward passes with the preset's losses, clipping, and the preset's optimiser.

    Args:
        config: the recipe's configuration.
        world: this process among those that train, and its device.
    """
    # As in training
    torch.set_flush_denormal(True)
    config, _ = resolve_config(config)
    space = build_space(config)
    torch.manual_seed(0)
    model = build_model(config.model, config.loss, config.tokenizer.vocab_size, space.widths, head_names(config))
    objective = Objective(model, config.loss).to(world.device).train()
    method = build_method(config, space, model).to(world.device)
    stepper = Stepper(objective, method, config.training, config.seed, world)
    rng = random.Random(0)
    return lambda batch: stepper.step([batch], StepContext(TOTAL_STEPS // 2, 1, TOTAL_STEPS, rng))
