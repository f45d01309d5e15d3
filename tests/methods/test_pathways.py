"""Pathways: masks against plain loops, weights that may not move, and runs that must be the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from slimasr.config.schema import Config
from slimasr.methods.base import StepContext
from slimasr.methods.masking import lasso_gradient
from slimasr.methods.slimmable import Slimmable
from slimasr.objective.objective import Objective
from slimasr.supernet.space import WidthSpace
from slimasr.training.trainer import Trainer
from tests.methods.pathway_kit import Run, made_up_masks, recipe
from tests.training.kit import TinyBatches, make_objective, make_trainer, tiny_tokenizer

FAST = {"optimizer": {"lr": 2e-2, "weight_decay": 0.5}}
SCALED = {"optimizer": {"kind": "scaled_adam", "lr": 5e-2}}
# Weights that were set to zero come back within some steps.
HOT = {"optimizer": {"lr": 0.2, "weight_decay": 0.5}, "schedule": {"kind": "constant", "warmup": 0.0}}
OPTIMIZERS = {"adamw": (FAST, ("exp_avg", "exp_avg_sq")), "scaled_adam": (SCALED, ("delta", "exp_avg_sq"))}


def largest(weight: Tensor, sparsity: float, allowed: Tensor | None = None) -> Tensor:
    """The entries of the blocks of the largest norms, the first of equal ones; by loops in float64.

    ``allowed`` are entries, in whole blocks.
    """
    places = [(i, j) for i in range(0, len(weight), 8) for j in range(weight.shape[1])]
    norms = {(i, j): float(weight[i : i + 8, j].double().norm()) for i, j in places}
    free = [(i, j) for i, j in places if allowed is None or bool(allowed[i, j])]
    found = torch.zeros_like(weight, dtype=torch.bool)
    for i, j in sorted(free, key=lambda place: -norms[place])[: round((1.0 - sparsity) * len(places))]:
        found[i : i + 8, j] = True
    return found


def is_plus_zero(values: Tensor) -> bool:
    return not bool(values.any()) and not bool(torch.signbit(values).any())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_pruned_weights_stay_zero(tmp_path: Path, optimizer: str) -> None:
    """+0.0 through decay, momentum and learnt sizes, and so do the moments, while all others are trained."""
    training, moments = OPTIMIZERS[optimizer]
    # Prunings are due after 2.4 and 4.8 of 24 steps.
    run = Run(recipe(training=training, masks="fixed", levels=[0.2, 0.5], prune_interval=0.1), tmp_path).steps(2)
    masks = run.masks("fr")
    assert all(bool(mask.all()) for mask in masks.values())
    for step in range(3, 12):
        run.step()
        level = {3: 0.2, 5: 0.5}.get(step)
        if level is not None:
            masks = {name: largest(weight, level, masks[name]) for name, weight in run.before.items()}
        for name, mask in run.masks("fr").items():
            assert torch.equal(mask, masks[name]), name
            weight = run.weights[name]
            assert is_plus_zero(weight[~mask])
            assert torch.equal(weight[mask], run.before[name][mask])
            assert all(is_plus_zero(run.state(key)[name][~mask]) for key in moments)
            assert all(bool(run.state(key)[name][mask].any()) for key in moments)
    assert run.method.history.levels == [(0.2, 3), (0.5, 5)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("masks", ["fixed", "adaptive"])
def test_a_batch_leaves_the_weights_of_other_languages_alone(tmp_path: Path, masks: str, optimizer: str) -> None:
    """Weights and moments of others keep every bit; those of the language move, adaptive ones also what nobody uses."""
    training, moments = OPTIMIZERS[optimizer]
    languages = ("en", "fr", "nl")
    start = made_up_masks(tmp_path / "start", recipe(languages))
    # The adaptation of each language is due within the run, but not within these steps.
    config = recipe(languages, training, masks=masks, levels=[], masks_from=f"{start}@0.5", adapt_interval=23)
    run = Run(config, tmp_path / "exp").steps(3)
    own = {name: run.masks(name) for name in languages}
    union = {matrix: torch.stack([own[name][matrix] for name in languages]).any(dim=0) for matrix in own["en"]}
    assert all(is_plus_zero(weight[~union[matrix]]) or masks == "adaptive" for matrix, weight in run.weights.items())
    seen = set()
    for _ in range(5):
        before = {"": {k: v.clone() for k, v in run.weights.items()}}
        before |= {key: {k: v.clone() for k, v in run.state(key).items()} for key in moments}
        state = run.trainer.state
        batch = next(run.batches.train_batches(state.epoch + 1, state.batch))
        run.step(batch)
        seen.add(batch.key)
        for matrix, everyone in union.items():
            free = own[batch.key][matrix] | (~everyone if masks == "adaptive" else False)
            assert 0 < int(free.sum()) < free.numel()
            for key, old in before.items():
                new = run.state(key) if key else run.weights
                assert torch.equal(new[matrix][~free], old[matrix][~free]), (matrix, key)
                moved = new[matrix][free] != old[matrix][free]
                # Channels without any input have no gradient.
                assert float(moved.float().mean()) > 0.6, (matrix, key)
    assert seen == set(languages)


def test_a_batch_runs_its_pathway_and_what_nobody_uses(tmp_path: Path) -> None:
    """Gradients equal those of a model whose other weights are zero, the LSTM's included."""
    languages = ("fr", "nl")
    start = made_up_masks(tmp_path / "start", recipe(languages))
    for masks in ("fixed", "adaptive"):
        config = recipe(languages, masks=masks, levels=[], masks_from=f"{start}@0.5", adapt_interval=23, zeroing=False)
        run = Run(config, tmp_path / masks)
        batch = run.batches.make(["a", "b"], "nl")
        own, other = run.masks("nl"), run.masks("fr")
        free = {name: own[name] | ~other[name] if masks == "adaptive" else own[name] for name in own}
        run.trainer.stepper.gradients([batch], run.trainer.context())
        found = {name: run.trainer.objective.model.get_parameter(name).grad.clone() for name in own}
        plain = Run(recipe(), tmp_path / "plain")
        plain.trainer.objective.model.load_state_dict({**run.trainer.objective.model.state_dict(), **buffers_of(plain)})
        for name, weight in plain.weights.items():
            weight.masked_fill_(~free[name], 0.0)
        plain.trainer.stepper.gradients([batch], plain.trainer.context())
        for name, mask in free.items():
            expected = plain.trainer.objective.model.get_parameter(name).grad
            torch.testing.assert_close(found[name][mask], expected[mask], rtol=1e-4, atol=1e-6, msg=name)
            assert not found[name][~mask].any()


def buffers_of(run: Run) -> dict[str, Tensor]:
    return {name: value for name, value in run.trainer.objective.model.state_dict().items() if "pathways." in name}


@pytest.mark.parametrize("shape", [(16, 3), (20, 4)])
def test_the_gradient_of_the_lasso_is_that_of_autograd(shape: tuple[int, int]) -> None:
    """In float64, of the norms of loops; a block of 4 outputs counts as one of 8 with equal mean square."""
    torch.manual_seed(0)
    weight = torch.randn(shape, dtype=torch.float64)
    mask = torch.rand(-(-shape[0] // 8), shape[1]) < 0.7
    weight[:8, 0] = 0.0
    mask[0, 0] = True
    leaf = weight.clone().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for i, j in mask.nonzero().tolist():
        block = leaf[8 * i : 8 * i + 8, j]
        if (i, j) != (0, 0):
            total = total + (8.0 * block.square().mean()).sqrt()
    total.backward()
    assert leaf.grad is not None
    found = lasso_gradient(weight, mask, (8, 1))
    torch.testing.assert_close(found, leaf.grad, rtol=1e-12, atol=1e-14)
    assert not found[:8, 0].any()


def test_the_lasso_pulls_at_kept_blocks_alone(tmp_path: Path) -> None:
    start = made_up_masks(tmp_path / "start", recipe())
    gradients = []
    for weight in (0.0, 0.25):
        config = recipe(levels=[], masks_from=f"{start}@0.5", adapt_interval=23, group_lasso=weight)
        run = Run(config, tmp_path / str(weight))
        batch = run.batches.make(["a", "b"], "fr")
        run.trainer.stepper.gradients([batch], run.trainer.context())
        run.method.after_backward(run.trainer.objective, run.trainer.context())
        gradients.append({name: run.trainer.objective.model.get_parameter(name).grad for name in run.weights})
    for name, mask in run.masks("fr").items():
        pull = lasso_gradient(run.weights[name], run.pathways.mask("fr", name), (8, 1))
        torch.testing.assert_close(gradients[1][name] - gradients[0][name], 0.25 * pull, rtol=0.0, atol=1e-5)
        assert pull[mask].any() and not pull[~mask].any()


# Runs that must be the same


class Frozen(Slimmable):
    """Plain training, of some weights only."""

    frozen: Mapping[str, Tensor] = {}

    def update_masks(self, objective: Objective, context: StepContext) -> dict[str, Tensor]:
        return dict(self.frozen)


class Soft:
    """Adaptive pruning of one language as the paper writes it down, on top of a plain training of the whole model."""

    def __init__(self, config: Config, exp: Path) -> None:
        plain = config.model_copy(update={"method": recipe().method})
        objective = make_objective(plain, tiny_tokenizer())
        self.method = Frozen(WidthSpace((1.0,)), {"transducer": 1.0, "ctc": 0.5})
        self.batches = TinyBatches(tiny_tokenizer())
        self.trainer: Trainer = make_trainer(plain, exp, self.method, self.batches, objective)
        self.sparsity = 0.0

    def steps(self, number: int, interval: int, prunings: dict[int, float], last: int) -> dict[str, Tensor]:
        """Train, prune after some steps, and choose masks anew at multiples of the interval and at the last time."""
        masks: dict[str, Tensor] = {}
        for step in range(1, number + 1):
            if step > 1 and (step - 1) % 6 == 0:
                self.trainer.state.epoch += 1
                self.trainer.course.begin_epoch(self.trainer.state)
            state = self.trainer.state
            batch = next(self.batches.train_batches(state.epoch + 1, state.batch))
            if step > last:
                self.method.frozen = {f"model.{name}": mask for name, mask in masks.items()}
            self.trainer.objective.train()
            self.trainer.note(self.trainer.stepper.step([batch], self.trainer.context()), [batch])
            self.sparsity = prunings.get(step, self.sparsity)
            if step in prunings or (self.sparsity and step <= last and (step % interval == 0 or step == last)):
                masks = self.choose()
        return masks

    def choose(self) -> dict[str, Tensor]:
        """The largest blocks of all; all others become zero, with a new history."""
        masks = {}
        for name, parameter in self.trainer.stepper.weights.items():
            name = name.removeprefix("model.")
            if name.startswith(("encoder.layers", "predictor.lstm")) and parameter.ndim == 2 and "affine" not in name:
                if not is_prunable(name):
                    continue
                masks[name] = largest(parameter.detach(), self.sparsity)
                state = self.trainer.stepper.optimizer.state[parameter]
                for tensor in (parameter.detach(), state["exp_avg"], state["exp_avg_sq"]):
                    tensor[~masks[name]] = 0.0
        return masks


def is_prunable(name: str) -> bool:
    return "lstm" in name or name.endswith(
        ("inner.weight", "outer.weight", "proj.weight", "gated.weight", "pointwise.weight")
    )


@pytest.mark.parametrize("languages", [("fr",), ("all",)])
def test_one_language_is_adaptive_pruning_as_the_paper_writes_it(tmp_path: Path, languages: tuple[str]) -> None:
    """Bit for bit: full weights run and are trained; the largest blocks of all weights stay, the others become zero."""
    config = recipe(languages, HOT, levels=[0.2, 0.4], prune_interval=0.1, adapt_interval=7, adapt_until=0.7)
    # Due after 2.4 and 4.8 steps; masks are final after 16.8.
    run = Run(config, tmp_path / "exp").steps(20)
    soft = Soft(config, tmp_path / "soft")
    masks = soft.steps(20, 7, {3: 0.2, 5: 0.4}, last=17)
    assert masks.keys() == run.weights.keys()
    for name, weight in run.weights.items():
        assert torch.equal(run.masks(languages[0])[name], masks[name]), name
        assert torch.equal(weight, soft.trainer.objective.model.get_parameter(name)), name
    choices = run.method.history.adaptations[languages[0]]
    assert [step for step, _ in choices] == [7, 14, 17]
    assert max(share for _, share in choices) > 0.0
