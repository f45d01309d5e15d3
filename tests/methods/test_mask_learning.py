"""Mask learning: steps against one ordinary graph, the switch, what survives it, and what the masks become."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from slimasr.data.batches.batch import Batch
from slimasr.errors import UserError
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.methods.base import StepContext
from slimasr.methods.learners.orthosoftmax import OrthoSoftmax
from slimasr.methods.mask_learning import MaskLearning, step_random
from slimasr.objective.objective import Objective
from slimasr.supernet.groups import kept_cost
from slimasr.supernet.subnet import Subnet
from slimasr.training.distributed import World
from slimasr.training.step import Stepper
from tests.methods.mask_kit import MH_SSM, build, ctc_model, mask_config, transducer_model
from tests.training.kit import TinyBatches, assert_equal, make_trainer, tiny_tokenizer

BATCHES = TinyBatches(tiny_tokenizer(), batch_size=4)
TOTAL = 100


def at(step: int, seed: int = 0) -> StepContext:
    return StepContext(step, 1, TOTAL, random.Random(seed))


def switched(method: MaskLearning, target: Objective) -> None:
    """Let the method choose its subnets now."""
    method.after_step(target, at(TOTAL - 1))
    assert method.switched


def gradients(target: Objective, method: MaskLearning, batch: Batch, context: StepContext) -> dict[str, Tensor]:
    """The gradients of a step, of weights and scores."""
    config = mask_config().training
    stepper = Stepper(target, method, config, seed=1, world=World())
    stepper.gradients([batch], context)
    found = dict(target.named_parameters()) | {f"method.{name}": p for name, p in method.named_parameters()}
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in found.items()}


def ctc_mean(target: Objective, batch: Batch, subnet: Subnet, stand_ins: dict[str, Tensor]) -> Tensor:
    """The loss per frame of a pass."""
    output = torch.func.functional_call(target, stand_ins, (batch, subnet, ("ctc",)))
    assert output.encoder is not None
    return output.losses["ctc"].sum() / output.encoder.lens.sum()


@pytest.mark.parametrize("scale", ["focal", "detached", 0.5])
def test_a_step_of_step_1_is_the_gradient_of_both_passes_and_the_penalty(scale: str | float) -> None:
    """Paper 4, equation 6, with equation 3: one loss in one graph."""
    settings = {"subnet_scale": 0.5 if scale == 0.5 else "focal", "focal_gradient": scale != "detached"}
    target, method = build(mask_config({**settings, "focal_exponent": 1.5, "learner": {"orthogonality_end": 3.0}}))
    target.double().eval()
    method.double()
    batch = BATCHES.make(["a", "b", "c"])
    batch = Batch(**{**vars(batch), "x": batch.x.double()})
    context = at(30)
    found = gradients(target, method, batch, context)

    drawn = step_random(context).randrange(2)
    learner = method.learner
    assert isinstance(learner, OrthoSoftmax)
    place = method._place(context)
    assert place.share == pytest.approx(0.5)
    gates = learner.gates(drawn, place)
    changed = target.model.encoder.reweight(gates, method.division.groups, "both")
    stand_ins = {f"model.encoder.{name}": value for name, value in changed.items()}
    whole = ctc_mean(target, batch, Subnet(), {})
    name = method.division.names[drawn]
    masked = ctc_mean(target, batch, Subnet(head=name), stand_ins)
    factor = torch.tensor(0.5) if scale == 0.5 else (1.0 - torch.exp(-masked)) ** 1.5
    if scale == "detached":
        factor = factor.detach()
    total = whole + factor * masked + learner.penalties(drawn, place)["orthogonality"]
    parameters = dict(target.named_parameters()) | {f"method.{name}": p for name, p in method.named_parameters()}
    expected = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    for name, value in zip(parameters, expected, strict=True):
        gradient = torch.zeros_like(found[name]) if value is None else value
        # Gates are float32.
        torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-9, msg=name)
    assert found["method.learner.scores"].abs().max() > 1e-4


def test_every_budget_trains_an_output_layer_of_its_own_from_the_start() -> None:
    target, method = build(mask_config())
    target.train()
    batch = BATCHES.make(["a", "b"])
    seen = set()
    for seed in range(6):
        found = gradients(target, method, batch, at(0, seed))
        heads = {name for name in found if name.startswith("model.heads") and found[name].abs().max() > 0}
        assert found["model.output.weight"].abs().max() > 0
        budget = method.division.names[step_random(at(0, seed)).randrange(2)].replace(".", "_")
        assert heads == {f"model.heads.{budget}.weight", f"model.heads.{budget}.bias"}
        seen |= heads
    assert len(seen) == 4
    target, method = build(mask_config({"separate_output_layers": False}))
    assert not [name for name, _ in target.named_parameters() if "heads" in name.split(".")[:2]]
    assert all(item.subnet.head is None for item in method.plan(batch, at(0)))


def test_step_2_trains_max_min_and_one_of_the_others() -> None:
    config = mask_config({"budgets": [0.4, 0.9, 0.55, 0.7], "layer_dropout": 0.5})
    target, method = build(config)
    switched(method, target)
    largest, *others, smallest = method.subnets()
    assert [subnet.head for subnet in (largest, *others, smallest)] == ["0.9", "0.7", "0.55", "0.4"]
    drawn, left_out = set(), []
    batch = BATCHES.make(["a", "b"])
    for seed in range(40):
        whole, low, other = method.plan(batch, at(70, seed))
        assert (whole.name, low.name) == ("w1", "0.4")
        assert low.subnet == smallest
        assert other.subnet in (largest, *others) and other.name == other.subnet.head
        assert all(item.rows is None and item.losses == {"ctc": 1.0} for item in (whole, low, other))
        drawn.add(other.name)
        left_out.append({key for key, units in whole.subnet.units})
        assert all(units in (0, ()) for _, units in whole.subnet.units)
        assert whole.subnet.head is None
    assert drawn == {"0.9", "0.7", "0.55"}
    # Modules of which the smallest subnet keeps nothing, each about every other time
    emptied = {key for key, units in smallest.units if units in (0, ())}
    assert emptied and set.union(*left_out) == emptied
    for key in emptied:
        assert 10 <= sum(key in keys for keys in left_out) <= 30
    assert target.model.count(method.plan(batch, at(70, 3))[0].subnet).macs <= target.model.count().macs
    # Index sets alone: nothing is multiplied any more.
    assert method.substitutes(target, method.plan(batch, at(70))[1], batch, at(70)) == {}
    assert method.penalties(target, at(70)) == {}


def test_a_step_of_step_2_is_the_gradient_of_its_subnets() -> None:
    target, method = build(mask_config({"budgets": [0.6], "subnet_scale": 0.25, "layer_dropout": 0.0}))
    target.double().eval()
    switched(method, target)
    batch = BATCHES.make(["a", "b", "c"])
    batch = Batch(**{**vars(batch), "x": batch.x.double()})
    found = gradients(target, method, batch, at(70))
    assert len(method.plan(batch, at(70))) == 2
    (subnet,) = method.subnets()
    total = ctc_mean(target, batch, Subnet(), {}) + 0.25 * ctc_mean(target, batch, subnet, {})
    parameters = dict(target.named_parameters())
    for (name, _), value in zip(
        parameters.items(), torch.autograd.grad(total, list(parameters.values()), allow_unused=True), strict=True
    ):
        gradient = torch.zeros_like(found[name]) if value is None else value
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12, msg=name)
    assert not found["method.learner.scores"].any()


@pytest.mark.parametrize(
    ("kind", "learner"),
    [
        ("conformer", {}),
        ("mh_ssm", {}),
        ("transducer", {}),
        ("conformer", {"kind": "top_k"}),
        ("mh_ssm", {"kind": "top_k", "relax": "soft"}),
        ("transducer", {"kind": "l0"}),
    ],
)
def test_encoders_models_and_learners(kind: str, learner: dict[str, Any], tmp_path: Path) -> None:
    """Two epochs, in the second of which the subnets are chosen; scores are trained, and the record says how."""
    models = {"conformer": ctc_model(), "mh_ssm": ctc_model(MH_SSM), "transducer": transducer_model()}
    loss = {"transducer": "full", "backend": "torch"} if kind == "transducer" else {}
    budgets = [0.95] if learner.get("kind") == "l0" else [0.9, 0.95]
    config = mask_config({"learner": learner, "budgets": budgets}, model=models[kind], loss=loss)
    target, method = build(config)
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    make_trainer(config, tmp_path, method, objective=target, batches=TinyBatches(tiny_tokenizer(), num_batches=4)).run()
    first, second = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    names = [str(budget) for budget in budgets]
    main = target.model.main_loss
    for record in (first, second):
        assert {f"{name}/{figure}" for name in ("w1", *names) for figure in (main, "wer")} <= record["dev"].keys()
    for name in names:
        wanted = {f"{name}/{figure}" for figure in ("k", "undecided", "duplicates", "cost")}
        assert wanted <= first["method"].keys() & second["method"].keys()
        # At the switch, in the middle of the second epoch
        assert 1.0 <= second["method"][f"{name}/k"] < len(method.division.groups)
        assert 0.0 < second["method"][f"{name}/cost"] < float(name)
        assert 0.0 < second["train"][f"{name}/lambda"] < 1.0
    assert ("temperature" in first["method"]) == ("off_identity" in str(second["method"])) == (not learner)
    for name, parameter in method.named_parameters():
        assert not torch.equal(parameter, before[name]), name
        assert torch.isfinite(parameter).all(), name
    batch = BATCHES.make(["a"])
    for item in method.evaluated():
        alone = target.model.eval().extract(item.subnet)
        assert sum(p.numel() for p in alone.parameters()) == target.model.count(item.subnet).params
        expected = target.model.encode(batch.x, batch.x_lens, item.subnet).out
        assert torch.allclose(alone.encode(batch.x, batch.x_lens).out, expected, atol=1e-5)


def test_gates_reach_groups_at_gate_0_of_top_k() -> None:
    """Of outputs alone, so that a group that has been left out can come back."""
    target, method = build(mask_config({"learner": {"kind": "top_k", "stages": 1}, "budgets": [0.5]}))
    found = gradients(target.train(), method, BATCHES.make(["a", "b"]), at(55))
    gates = method.learner.gates(0, method._place(at(55)))
    left_out = (gates == 0).nonzero().flatten()
    assert 0 < len(left_out) < len(gates)
    assert (found["method.learner.scores"][left_out] != 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_chosen_subnets_are_nested_and_below_their_budgets(seed: int) -> None:
    config = mask_config({"budgets": [0.45, {"blocks": 1}, 0.8], "criterion": "macs", "cost_seconds": 2.0})
    target, method = build(config)
    with torch.no_grad():
        method.get_parameter("learner.scores").normal_(generator=torch.Generator().manual_seed(seed)).mul_(3.0)
    switched(method, target)
    learnt = method.learnt()
    assert [item.name for item in learnt] == ["max", "0.8", "1 block", "0.45"]
    whole = target.model.count(seconds=2.0).macs
    division = method.division
    count = kept_cost(target.model, division.groups, "macs", 2.0)
    kept = [set(row.nonzero().flatten().tolist()) for row in method.kept]
    for larger, smaller in ((kept[0], kept[1]), (kept[1], kept[2])):
        assert smaller <= larger
    block = target.model.count(Subnet(path=(0,)), 2.0).macs
    for item, groups, limit in zip(learnt[1:], kept, (0.8 * whole, block, 0.45 * whole), strict=True):
        assert item.budget == pytest.approx(limit)
        assert item.cost == target.model.count(item.subnet, 2.0).macs == count(groups)
        assert limit - max(division.costs.groups) * 1.2 < item.cost < limit
        assert [division.groups[i] for i in sorted(groups)] == list(item.groups)


def test_the_switch_waits_for_a_successful_step(tmp_path: Path) -> None:
    config = mask_config(training={"optimizer": {"lr": 1e-3}})
    target, method = build(config)
    batches = TinyBatches(tiny_tokenizer(), poisoned=["bad"])
    trainer = make_trainer(config, tmp_path, method, batches, target)
    good, bad = batches.make(["a", "b"]), batches.make(["bad", "b"])
    # 0.6 of 100 steps: the one that is done as the 60th switches.
    for step, batch, done in ((58, good, False), (59, bad, False), (60, good, True)):
        result = trainer.stepper.step([batch], at(step))
        assert result.skipped == (batch is bad)
        assert bool(method.switched) == done
        assert (method.learnt() == ()) == (not done)
        assert bool(method.kept.any()) == done


def test_optimiser_state_survives_the_switch_and_scores_stay(tmp_path: Path) -> None:
    config = mask_config({"budgets": [0.6]}, training={"optimizer": {"lr": 1e-3}})
    target, method = build(config)
    stepper = Stepper(target, method, config.training, seed=1, world=World())
    batch = BATCHES.make(["a", "b"])
    for step in (58, 59):
        stepper.step([batch], at(step))
    assert method.switched
    weight = target.model.get_parameter("encoder.layers.0.parts.ffn1.inner.weight")
    scores = method.get_parameter("learner.scores")
    chosen = scores.detach().clone()
    stepper.enter_phase(2)
    for step in (60, 61):
        stepper.step([batch], at(step))
    assert int(stepper.optimizer.state[weight]["step"]) == 4
    assert int(stepper.optimizer.state[scores]["step"]) == 2
    assert torch.equal(scores, chosen)


class Stop(Exception):
    """The run ends here."""


@pytest.mark.parametrize(("learner", "stops"), [("orthosoftmax", (2, 4, 5)), ("l0", (2,))])
def test_a_killed_run_goes_on_exactly_where_it_stopped(tmp_path: Path, learner: str, stops: tuple[int, ...]) -> None:
    """Before, at and after the switch, which comes with the 4th of 6 steps."""
    training = {
        "checkpoint_minutes": 1e-9,
        "optimizer": {"lr": 1e-2},
        "scan_worst_batches": True,
        "validate_every": 2,
    }
    settings = {"learner": {"kind": learner}, "budgets": [0.6], "layer_dropout": 0.5}
    config = mask_config(settings, training)

    def run(exp: Path, last_step: int | None) -> None:
        target, method = build(config)
        trainer = make_trainer(config, exp, method, TinyBatches(tiny_tokenizer(), num_batches=3), target)

        def until(items: Iterable[Any], total: int | None = None, label: str = "") -> Iterator[Any]:
            for item in items:
                yield item
                if trainer.state.step == last_step:
                    raise Stop

        trainer.progress = until
        trainer.run()
        assert method.switched

    run(tmp_path / "whole", None)
    whole = load_checkpoint(tmp_path / "whole" / "checkpoints" / "epoch-002.pt")
    for stop_at in stops:
        parts = tmp_path / f"parts{stop_at}"
        with pytest.raises(Stop):
            run(parts, stop_at)
        run(parts, None)
        again = load_checkpoint(parts / "checkpoints" / "epoch-002.pt")
        for part in ("model", "method", "optimizer", "average", "subnets"):
            assert_equal(whole[part], again[part], part)


@pytest.mark.parametrize("penalized", [True, False])
def test_masks_become_k_hot_and_rows_separate(penalized: bool) -> None:
    """With the penalty every row chooses a group of its own; without it, rows choose the same groups."""
    learner = {"score_lr_scale": 30.0, "orthogonality_end": 1.0 if penalized else 0.0}
    config = mask_config(
        {"budgets": [0.45], "granularity": "layer", "learner": learner},
        training={"optimizer": {"lr": 5e-3}, "schedule": {"kind": "constant", "warmup": 0.0}},
    )
    target, method = build(config)
    stepper = Stepper(target.train(), method, config.training, seed=1, world=World())
    batches = [BATCHES.make(["a", "b"]), BATCHES.make(["e", "f"])]
    for step in range(59):
        stepper.step([batches[step % 2]], at(step, seed=step))
    figures = method.statistics(target, at(59))
    learner_module = method.learner
    assert isinstance(learner_module, OrthoSoftmax)
    rows = learner_module.rows(method._place(at(59))).detach()[: int(figures["0.45/k"])]
    assert len(rows) >= 2
    if penalized:
        assert float(rows.amax(dim=1).min()) > 0.95
        assert len(set(rows.argmax(dim=1).tolist())) == len(rows)
        assert figures["0.45/off_identity"] < 0.1
        assert (figures["0.45/undecided"], figures["0.45/duplicates"]) == (0, 0)
        gates = learner_module.gates(0, method._place(at(59))).detach()
        assert float((gates - gates.round()).abs().max()) < 0.05
    else:
        assert figures["0.45/off_identity"] > 0.5


def test_scores_that_are_not_finite_end_the_training() -> None:
    _, method = build(mask_config())
    with torch.no_grad():
        method.get_parameter("learner.scores")[0, 0] = math.nan
    with pytest.raises(UserError, match=r"method\.learner.*score_lr_scale"):
        method.plan(BATCHES.make(["a"]), at(0))
