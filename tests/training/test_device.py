"""Passes on a device never read values back from it, which would make the CPU wait for all work queued there.

There is no GPU here: torch's device "meta" takes its place, whose tensors have shapes and no values, so that every
attempt to read one is an error.
"""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from slimasr.config.load import load_config
from slimasr.config.training import SpecAugmentConfig
from slimasr.data.batches.batch import Batch
from slimasr.encoders.base import EncoderOutput
from slimasr.methods import build_method, resolve_config
from slimasr.methods.base import StepContext
from slimasr.models.build import build_model
from slimasr.objective.objective import Objective
from slimasr.objective.passes import PassInputs
from slimasr.supernet.build import build_space
from slimasr.training.spec_augment import spec_augment

EGS = Path(__file__).parent.parent.parent / "egs"
META = torch.device("meta")


def batch_of(num_mel_bins: int) -> Batch:
    """A batch on the CPU; the last token of the first utterance is the highest that all recipes here have."""
    frames = torch.tensor([120, 90, 100])
    tokens = torch.tensor([5, 3, 0])
    names = ("a", "b", "c")
    ends = torch.tensor([[1, 3, 4, 6, 9], [-1] * 5, [-1] * 5])
    targets = torch.randint(0, 20, (3, 30))
    y = torch.randint(3, 20, (3, 5))
    return Batch(torch.randn(3, 120, num_mel_bins), frames, y, tokens, names, names, ends=ends, targets=targets)


def ctc_stand_in(log_probs: Tensor, y: Tensor, x_lens: Tensor, y_lens: Tensor, **options: Any) -> Tensor:
    """Torch's CTC loss has no implementation on the device meta; on GPUs, it wants lengths on the CPU."""
    assert x_lens.device.type == y_lens.device.type == "cpu"
    return -log_probs.sum(dim=(0, 2))


RESTRICTED = ("loss.transducer=restricted", "loss.alignments=a", "loss.auxiliary={layers: [], output: true}")


@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [
        ("an4/conf/slimmable_head_size.yaml", ()),
        ("an4/conf/slimmable_head_size.yaml", RESTRICTED),
        ("an4/conf/todm_conformer_channels.yaml", ()),
        ("an4/conf/todm_frames.yaml", ()),
        ("an4/conf/collaborative.yaml", ("loss.auxiliary.num_states=20",)),
        ("digits/conf/todm.yaml", ()),
        ("librispeech/conf/slimmable_30M_bpe500.yaml", ()),
    ],
)
def test_passes_read_nothing_back(recipe: str, overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    # Autocast does not know the device.
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: contextlib.nullcontext())
    monkeypatch.setattr(functional, "ctc_loss", ctc_stand_in)
    config, _ = resolve_config(load_config(EGS / recipe, ("loss.backend=torch", *overrides)))
    space = build_space(config)
    with META:
        model = build_model(config.model, config.loss, config.tokenizer.vocab_size, space.widths)
    objective = Objective(model, config.loss).train()
    method = build_method(config, space, model)
    batch = batch_of(config.model.num_mel_bins).to(META)
    context = StepContext(500, 1, 1000, random.Random(0))
    outputs = []
    plan = method.plan(batch, context)
    for number, item in enumerate(plan):
        part = batch if item.rows is None else batch.select(item.rows)
        teacher = None
        if item.teacher is not None:
            rows = list(range(len(batch))) if item.rows is None else list(item.rows)
            teacher = outputs[item.teacher].detach().select(rows)
        teaches = any(other.teacher == number for other in plan)
        output = method.forward_pass(objective, item, part, context, PassInputs(teacher=teacher, teaches=teaches))
        output.total(item.losses).backward()
        outputs.append(output)
    assert all(output.losses["transducer"].device == META for output in outputs)


def test_only_lengths_and_ends_stay_on_the_cpu() -> None:
    moved = batch_of(8).to(META)
    assert moved.ends is not None and moved.targets is not None
    assert moved.x.device == moved.y.device == moved.targets.device == META
    assert moved.ends.device == moved.select((1, 2)).y_lens.device == torch.device("cpu")
    assert moved.num_tokens == 8
    part = moved.select((1, 2))
    assert part.x.shape == (2, 100, 8)
    assert part.y.shape == (2, 3)
    hidden = EncoderOutput(torch.zeros(3, 29, 4, device=META), torch.tensor([29, 21, 24])).select((2, 1))
    assert hidden.out.shape == (2, 24, 4)


def test_spec_augment_draws_the_same_masks_for_every_device() -> None:
    batch = batch_of(80)
    fill = torch.full((80,), 7.0)
    here = spec_augment(batch, SpecAugmentConfig(), fill, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    there = spec_augment(batch.to(META), SpecAugmentConfig(), fill.to(META), generator)
    assert there.x.device == META
    assert (here.x == 7.0).any()
    # Both have taken as many numbers from the generator.
    again = torch.Generator().manual_seed(3)
    spec_augment(replace(batch), SpecAugmentConfig(), fill, again)
    assert torch.equal(again.get_state(), generator.get_state())
