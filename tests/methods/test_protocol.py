"""What a method may form itself: totals of passes, penalties, names of curves, groups of the optimiser."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.methods.phases import ParameterGroup
from slimasr.objective.objective import Objective
from slimasr.objective.passes import PassOutput
from slimasr.supernet.space import WidthSpace
from slimasr.supernet.subnet import Subnet
from slimasr.training.step import Stepper
from tests.training.kit import TinyBatches, make_trainer, tiny_config, tiny_tokenizer

LOSSES = {"transducer": 1.0, "ctc": 0.5}
TARGET = torch.tensor([3.0, -1.0])


class Penalized(Method):
    """Squares the loss of every pass, and pulls two scores of its own towards constants."""

    def __init__(self, group: dict[str, Any] | None = None) -> None:
        super().__init__(WidthSpace((1.0,)), LOSSES)
        self.scores = nn.Parameter(torch.tensor([0.5, 0.5]))
        self.group = {"lr_scale": 10.0, **(group or {})}
        self.calls = 0

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        return [Pass(Subnet(), self.losses, role="squared")]

    def total(self, output: PassOutput, item: Pass, context: StepContext) -> Tensor:
        return output.total(item.losses).square()

    def figures(self, output: PassOutput, item: Pass, context: StepContext) -> dict[str, Tensor]:
        return {"root": output.total(item.losses)}

    def penalties(self, objective: Objective, context: StepContext) -> dict[str, Tensor]:
        self.calls += 1
        product = self.scores.unsqueeze(0) @ self.scores.unsqueeze(1)
        # A product of matrices would be rounded to bf16 inside autocast.
        return {"distance": (self.scores - TARGET).square().sum(), "product": 0.1 * product.squeeze()}

    def evaluated(self) -> list[Pass]:
        return [Pass(Subnet(), {}, role="soft"), Pass(Subnet(), {})]

    def statistics(self, objective: Objective, context: StepContext) -> dict[str, float]:
        return {"planned": context.planned}

    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup("scores", [self.scores], **self.group)]


def exact(**training: Any) -> Config:
    return tiny_config(
        dropout=0.0, training={"spec_augment": None, "num_epochs": 1, **training}, space={"widths": [1.0]}
    )


def stepped(stepper: Stepper, batches: Sequence[Batch], context: StepContext) -> dict[str, float]:
    """The losses of one step's gradients, by name."""
    return stepper.gradients(batches, context).losses


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_penalty_counts_once_however_many_batches_there_are(tmp_path: Path, precision: str) -> None:
    method = Penalized()
    trainer = make_trainer(exact(precision=precision), tmp_path, method)
    source = TinyBatches(tiny_tokenizer())
    for batches in ([["a"]], [["a"], ["b", "c"], ["d"]]):
        losses = stepped(trainer.stepper, [source.make(ids) for ids in batches], trainer.context())
        # d/ds (s - t)^2 + 0.1 s^2, exact in float32
        expected = 2.0 * (method.scores.detach() - TARGET) + 0.2 * method.scores.detach()
        assert method.scores.grad is not None
        torch.testing.assert_close(method.scores.grad, expected, rtol=1e-6, atol=0.0)
        assert losses["penalty/distance"] == pytest.approx(8.5, abs=1e-6)
        assert losses["penalty/product"] == pytest.approx(0.05, abs=1e-7)
    assert method.calls == 2


def test_a_method_forms_the_total_of_a_pass(tmp_path: Path) -> None:
    method = Penalized()
    trainer = make_trainer(exact(), tmp_path, method)
    trainer.objective.eval()
    batch = TinyBatches(tiny_tokenizer()).make(["a", "b", "c"])
    losses = stepped(trainer.stepper, [batch], trainer.context())
    name = "model.encoder.layers.0.parts.ffn1.outer.weight"
    weight = dict(trainer.objective.named_parameters())[name]
    assert weight.grad is not None
    found = weight.grad.clone()
    output = trainer.objective(batch, Subnet(), tuple(LOSSES), 0.0)
    mean = sum(LOSSES[loss] * output.losses[loss].sum() for loss in LOSSES) / batch.num_tokens
    (expected,) = torch.autograd.grad(mean**2, weight)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert losses["squared/root"] == pytest.approx(mean.item(), rel=1e-5)


def test_curves_have_the_names_of_passes_and_epochs_the_statistics_of_the_method(tmp_path: Path) -> None:
    trainer = make_trainer(exact(), tmp_path, Penalized())
    trainer.run()
    record = json.loads((tmp_path / "train_log.jsonl").read_text().splitlines()[-1])
    assert {f"soft/{figure}" for figure in ("transducer", "ctc", "wer")} <= record["dev"].keys()
    # The same subnet under two names
    assert record["dev"]["soft/ctc"] == record["dev"]["w1/ctc"]
    assert {"squared/transducer", "squared/root", "penalty/distance", "penalty/product"} <= record["train"].keys()
    # A penalty is a mean over steps, not over tokens.
    assert 0.0 < record["train"]["penalty/distance"] <= 8.5
    assert record["method"] == {"planned": 6.0}


@pytest.mark.parametrize("optimizer", [{"kind": "adamw", "lr": 1e-3}, {"kind": "scaled_adam", "lr": 1e-2}])
def test_scores_take_plain_adam_steps_with_their_own_eps(tmp_path: Path, optimizer: dict[str, Any]) -> None:
    """Tiny gradients count in full with a tiny eps, and the magnitude of the scores has no effect."""
    moved = []
    for eps, size in ((1e-16, 1.0), (1e-16, 100.0), (1.0, 1.0)):
        method = Penalized({"eps": eps})
        trainer = make_trainer(exact(optimizer=optimizer), tmp_path / f"{eps}{size}", method)
        with torch.no_grad():
            method.scores.mul_(size)
        before = method.scores.detach().clone()
        trainer.stepper.set_rate(trainer.context())
        for parameter in trainer.objective.parameters():
            parameter.grad = torch.ones_like(parameter)
        method.scores.grad = torch.tensor([1e-9, -1e-9])
        trainer.stepper.optimizer.step()
        moved.append(method.scores.detach() - before)
    tiny, large, wide = moved
    assert tiny[0] < 0 < tiny[1]
    torch.testing.assert_close(tiny, -tiny.flip(0), rtol=1e-4, atol=0.0)
    # The rounding of scores of 50
    torch.testing.assert_close(large, tiny, rtol=0.0, atol=4e-6)
    assert float(wide.abs().max()) < 1e-6 * float(tiny.abs().max())


def test_scaled_adam_clips_by_the_model_alone(tmp_path: Path) -> None:
    """A huge gradient of a score neither is clipped nor lets the model's be clipped."""
    sizes = []
    for gradient in (1.0, 1e6):
        method = Penalized()
        trainer = make_trainer(exact(optimizer={"kind": "scaled_adam", "lr": 1e-2}), tmp_path / str(gradient), method)
        weight = dict(trainer.objective.named_parameters())["model.encoder.layers.0.parts.ffn1.outer.weight"]
        for _ in range(3):
            for parameter in trainer.objective.parameters():
                parameter.grad = torch.ones_like(parameter)
            method.scores.grad = torch.full((2,), gradient)
            trainer.stepper.set_rate(trainer.context())
            trainer.stepper.optimizer.step()
        sizes.append((weight.detach().clone(), method.scores.detach().clone()))
    (weight, scores), (weight_beside, scores_beside) = sizes
    assert torch.equal(weight, weight_beside)
    torch.testing.assert_close(scores, scores_beside, rtol=1e-5, atol=0.0)


def test_gradients_are_clipped_only_if_there_is_a_norm(tmp_path: Path) -> None:
    norms = {}
    for limit in (1e-3, None):
        trainer = make_trainer(exact(clip_norm=limit), tmp_path / str(limit), Penalized())
        result = trainer.stepper.step([TinyBatches(tiny_tokenizer()).make(["a", "b"])], trainer.context())
        grads = [p.grad for p in trainer.objective.parameters() if p.grad is not None]
        norms[limit] = float(nn.utils.get_total_norm(grads)), result.grad_norm
    (clipped, before), (free, same) = norms[1e-3], norms[None]
    assert clipped == pytest.approx(1e-3, rel=1e-4)
    assert math.isfinite(free) and free == pytest.approx(same, rel=1e-6) == pytest.approx(before, rel=1e-6)
    assert free > 1.0


def test_own_parameters_that_a_step_does_not_use_stay_as_they_are(tmp_path: Path) -> None:
    """Neither their momentum nor their decay moves them, so that frozen scores keep every bit."""
    method = Penalized({"weight_decay": 0.1})
    trainer = make_trainer(exact(), tmp_path, method)
    batch = TinyBatches(tiny_tokenizer()).make(["a", "b"])
    trainer.stepper.step([batch], trainer.context())
    moved = method.scores.detach().clone()
    assert not torch.equal(moved, torch.tensor([0.5, 0.5]))
    method.penalties = lambda objective, context: {}  # type: ignore[method-assign]
    trainer.stepper.step([batch], trainer.context())
    assert torch.equal(method.scores, moved)
