"""The points at which a method may change weights: behind a step, and behind the average."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.methods.base import StepContext
from slimasr.methods.slimmable import Slimmable
from slimasr.objective.objective import Objective
from slimasr.results.store import read_results
from slimasr.supernet.space import WidthSpace
from tests.training.kit import TinyBatches, make_trainer, tiny_config, tiny_tokenizer

NAME = "model.encoder.layers.0.parts.ffn1.inner.weight"


class Restarting(Slimmable):
    """Restarts half of a weight behind every third step, averages only late, and doubles a bias at the end."""

    def __init__(self) -> None:
        super().__init__(WidthSpace((1.0,)), {"transducer": 1.0, "ctc": 0.5})
        self.calls: list[Any] = []
        self.averaged: dict[int, Tensor] = {}

    def mask(self, objective: Objective) -> Tensor:
        weight = objective.get_parameter(NAME)
        return torch.arange(weight.numel()).view_as(weight) % 2 == 0

    def after_step(self, objective: Objective, context: StepContext) -> dict[str, Tensor]:
        self.calls.append(context.key)
        if context.step % 3 != 2:
            return {}
        context.keep("parts/kept.pt", {"model": {"step": torch.tensor(context.step)}})
        return {NAME: self.mask(objective)}

    def averages(self, context: StepContext) -> bool:
        if context.planned < 11:
            return False
        self.averaged[context.step] = torch.tensor(context.planned)
        return True

    def finish(self, objective: Objective, context: StepContext) -> None:
        self.calls.append("finish")
        with torch.no_grad():
            objective.get_parameter(NAME).fill_(2.0)

    def facts(self, objective: Objective) -> dict[str, Any]:
        return {"separate_of": "w0.5"}


@pytest.mark.parametrize("optimizer", [{"lr": 2e-3}, {"kind": "scaled_adam", "lr": 1e-2}])
def test_entries_start_anew_behind_a_step(tmp_path: Path, optimizer: dict[str, Any]) -> None:
    """Their moments are zero, those of all others are what they are without a restart."""
    states = []
    for restarts in (True, False):
        method = Restarting()
        if not restarts:
            method.after_step = lambda *_: {}  # type: ignore[method-assign]
        trainer = make_trainer(
            tiny_config(dropout=0.0, training={"optimizer": optimizer}, space={"widths": [1.0]}), tmp_path, method
        )
        batch = TinyBatches(tiny_tokenizer()).make(["a", "b"])
        for _ in range(3):
            trainer.note(trainer.stepper.step([batch], trainer.context()), [batch])
        states.append(trainer.stepper.optimizer.state[trainer.stepper.weights[NAME]])
        weight = trainer.stepper.weights[NAME].detach()
    restarted, whole = states
    mask = method.mask(trainer.objective)
    moments = [key for key, value in whole.items() if isinstance(value, Tensor) and value.shape == weight.shape]
    assert len(moments) == 2
    for key in moments:
        assert not restarted[key][mask].any()
        assert whole[key][mask].any()
        assert torch.equal(restarted[key][~mask], whole[key][~mask])
    for key in whole.keys() - set(moments):
        assert restarted[key] == whole[key]


def test_a_method_says_what_is_averaged_and_changes_the_result(tmp_path: Path) -> None:
    batches = TinyBatches(tiny_tokenizer(), languages=("de", "fr"))
    method = Restarting()
    config = tiny_config(training={"average_period": 1}, space={"widths": [1.0]})
    trainer = make_trainer(config, tmp_path, method, batches)
    trainer.run()
    assert method.calls[-1] == "finish"
    assert sorted(method.calls[:-1]) == ["de"] * 6 + ["fr"] * 6
    # 12 steps, of which the plan would average those from 60 % on
    assert method.averaged.keys() == {11, 12}
    assert trainer.average.count == 2
    final = load_checkpoint(tmp_path / "final.pt")["model"]
    assert bool((final[NAME.removeprefix("model.")] == 2.0).all())
    assert not bool((trainer.average.parameters[NAME.removeprefix("model.")] == 2.0).all())
    assert load_checkpoint(tmp_path / "parts" / "kept.pt")["model"]["step"] == 11
    assert read_results(tmp_path).separate_of == "w0.5"
