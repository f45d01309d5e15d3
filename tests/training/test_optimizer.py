"""Parameter groups, and updates that must leave chosen weights alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from slimasr.config.training import AdamWConfig, OptimizerConfig, ScaledAdamConfig
from slimasr.elastic.ssm import ElasticS4D
from slimasr.methods.phases import ParameterGroup
from slimasr.training.optimizer import (
    build_optimizer,
    fill_missing_gradients,
    mask_gradients,
    protected,
    set_learning_rate,
    undecayed_parameters,
)
from slimasr.training.scaled_adam import ScaledAdam
from tests.training.kit import TinyBatches, make_objective, make_trainer, tiny_config, tiny_tokenizer


def test_norms_biases_and_embeddings_are_not_decayed() -> None:
    objective = make_objective(tiny_config(), tiny_tokenizer())
    optimizer = build_optimizer(objective, [], AdamWConfig(weight_decay=0.1))
    names = {id(p): name for name, p in objective.named_parameters()}
    groups = {g["name"]: {names[id(p)] for p in g["params"]} for g in optimizer.param_groups}
    assert groups["decayed"] | groups["undecayed"] == set(names.values())
    assert groups["undecayed"] == undecayed_parameters(objective)
    for name in groups["decayed"]:
        assert name.endswith("weight"), name
        assert "norm" not in name, name
        assert "embedding" not in name, name
    for part in ("content_bias", "position_bias", "embedding.weight", "norms.ffn1.affine.8.weight", "outer.bias"):
        assert any(name.endswith(part) for name in groups["undecayed"]), part


def test_groups_keep_their_scale_and_direction() -> None:
    """A maximised group climbs; its rate is its own multiple of the schedule's."""
    model, multiplier = nn.Linear(2, 1), nn.Parameter(torch.zeros(1))
    own = ParameterGroup("multiplier", [multiplier], lr_scale=10.0, maximize=True)
    optimizer = build_optimizer(model, [own], AdamWConfig(weight_decay=0.0))
    set_learning_rate(optimizer, 0.01)
    before = model.weight.detach().clone()
    (model.weight.sum() + multiplier.sum()).backward()
    optimizer.step()
    assert multiplier.item() == pytest.approx(0.1, rel=1e-4), "Adam's first step is the rate itself"
    assert torch.allclose(model.weight, before - 0.01, atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [AdamWConfig(ssm_lr_scale=0.2, weight_decay=0.1), ScaledAdamConfig(ssm_lr_scale=0.2)],
    ids=["adamw", "scaled"],
)
def test_time_scales_and_poles_learn_slowly_and_do_not_decay(config: OptimizerConfig) -> None:
    """Without gradient signal, only decay moves a weight: the matrix alone shrinks, and with ScaledAdam nothing."""
    model = nn.ModuleDict({"ssm": ElasticS4D(4, 8, (1e-3, 1e-1)), "mix": nn.Linear(4, 4)})
    names = {id(p): name for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, [], config)
    set_learning_rate(optimizer, 0.01)
    groups = {g["name"]: ({names[id(p)] for p in g["params"]}, g["lr"]) for g in optimizer.param_groups}
    assert groups == {
        "decayed": ({"mix.weight"}, 0.01),
        "undecayed": ({"mix.bias", "ssm.readout", "ssm.skip"}, 0.01),
        "ssm": ({"ssm.log_dt", "ssm.log_decay", "ssm.frequency"}, pytest.approx(0.002)),
    }
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == ({"mix.weight"} if config.kind == "adamw" else set())


def test_scaled_adam_leaves_the_size_of_poles_alone() -> None:
    """Frequencies far above the limit on sizes take Adam's small steps; a matrix of that size is pulled back."""
    model = nn.ModuleDict({"ssm": ElasticS4D(4, 32, (1e-3, 1e-1)), "mix": nn.Linear(64, 4, bias=False)})
    frequency, matrix = model["ssm"].frequency, model["mix"].weight
    with torch.no_grad():
        matrix.copy_(frequency.reshape(4, 16).repeat(1, 4))
    start = frequency.detach().clone()
    config = ScaledAdamConfig()
    optimizer = build_optimizer(model, [], config)
    set_learning_rate(optimizer, config.lr)
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()
    moved = (frequency.detach() - start).abs().max().item()
    step = config.lr * config.ssm_lr_scale * config.scale_lr
    assert 0.0 < moved < 3 * 40 * step
    assert matrix.detach().square().mean().sqrt() < 0.25 * start.square().mean().sqrt()


def test_every_option_reaches_the_optimiser() -> None:
    values = {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-7, "scale_lr": 0.3, "rms_min": 1e-4, "rms_max": 2.0}
    config = ScaledAdamConfig(**values, scalar_max=4.0, scale_period=3, clip_scale=5.0, clip_window=7)
    optimizer = build_optimizer(nn.Linear(2, 2), [ParameterGroup("own", [nn.Parameter(torch.ones(2))])], config)
    assert isinstance(optimizer, ScaledAdam)
    assert (optimizer.clip_scale, optimizer.clip_window) == (5.0, 7)
    assert [g["name"] for g in optimizer.param_groups] == ["decayed", "undecayed", "own"]
    for group in optimizer.param_groups:
        assert {name: group[name] for name in values} == values
        assert (group["scalar_max"], group["scale_period"]) == (4.0, 3)
        # What belongs to a method are no weights of a size.
        relative = group["name"] != "own"
        assert (group["relative"], group["clipped"]) == (relative, relative)


@pytest.mark.parametrize("clip_scale", [2.0, None])
def test_scaled_adam_clips_in_place_of_the_trainer(tmp_path: Path, clip_scale: float | None) -> None:
    """What is reported is the norm before clipping, whoever clips; without ``clip_scale`` the trainer does."""
    optimizer = {"kind": "scaled_adam", "clip_scale": clip_scale}
    trainer = make_trainer(tiny_config(training={"optimizer": optimizer, "clip_norm": 1e-3}), tmp_path)
    trainer.objective.train()
    result = trainer.stepper.step([TinyBatches(tiny_tokenizer()).make(["a", "b"])], trainer.context())
    left = nn.utils.get_total_norm([p.grad for p in trainer.objective.parameters() if p.grad is not None]).item()
    assert result.grad_norm > 0.01
    assert left == pytest.approx(1e-3 if clip_scale is None else result.grad_norm, rel=1e-2)


def test_missing_gradients_become_zeros_but_for_norms() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    fill_missing_gradients({"a": a, "b": b}, keep={"b"})
    assert a.grad is not None
    assert torch.equal(a.grad, torch.zeros(2))
    assert b.grad is None


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.3, amsgrad=True),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.3),
        lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.9),
    ],
    ids=["adamw", "sgd", "rmsprop"],
)
@pytest.mark.parametrize("masked_from_the_start", [True, False])
def test_masked_weights_and_their_state_stay(make: object, masked_from_the_start: bool) -> None:
    """The free half moves exactly as it would without any mask; the masked half keeps every bit."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(4, 3))
    twin = nn.Parameter(weight.detach().clone())
    optimizer, twin_optimizer = make([weight]), make([twin])  # type: ignore[operator]
    mask = torch.zeros(4, 3, dtype=torch.bool)
    mask[:2] = True
    if not masked_from_the_start:
        for p, o in ((weight, optimizer), (twin, twin_optimizer)):
            p.grad = torch.ones_like(p)
            o.step()
    frozen = weight.detach().clone()
    state = {k: v.clone() for k, v in optimizer.state[weight].items() if torch.is_tensor(v) and v.shape == weight.shape}
    for _ in range(3):
        gradient = torch.randn(4, 3)
        weight.grad, twin.grad = gradient.clone(), gradient.clone()
        mask_gradients({"w": weight}, {"w": mask})
        assert torch.equal(weight.grad, gradient * mask)
        with protected(optimizer, {"w": weight}, {"w": mask}):
            optimizer.step()
        twin_optimizer.step()
    assert torch.equal(weight[~mask], frozen[~mask])
    assert torch.equal(weight[mask], twin[mask])
    for key, value in optimizer.state[weight].items():
        if torch.is_tensor(value) and value.shape == weight.shape:
            old = state.get(key, torch.zeros_like(value))
            assert torch.equal(value[~mask], old[~mask]), key
            assert torch.equal(value[mask], twin_optimizer.state[twin][key][mask]), key


def test_masks_with_scaled_adam() -> None:
    """Entries outside the mask keep weight, second moment and momentum. The size is that of the whole tensor, and its
    gradient that of the entries inside: up to its first change, these move as if the others' gradients were zero."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(4, 3))
    twin = nn.Parameter(weight.detach().clone())
    optimizer, twin_optimizer = ScaledAdam([weight], scale_lr=0.5), ScaledAdam([twin], scale_lr=0.5)
    mask = torch.zeros(4, 3, dtype=torch.bool)
    mask[:2] = True
    start = weight.detach().clone()
    for _ in range(4):
        weight.grad = torch.randn(4, 3)
        mask_gradients({"w": weight}, {"w": mask})
        twin.grad = weight.grad.clone()
        with protected(optimizer, {"w": weight}, {"w": mask}):
            optimizer.step()
        twin_optimizer.step()
    assert torch.equal(weight[~mask], start[~mask])
    assert not torch.equal(twin[~mask], start[~mask]), "without protection the new size would move all entries"
    assert torch.equal(weight[mask], twin[mask])
    state, twin_state = optimizer.state[weight], twin_optimizer.state[twin]
    for key in ("delta", "exp_avg_sq"):
        assert not state[key][~mask].any(), key
        assert torch.equal(state[key][mask], twin_state[key][mask]), key
    assert state["scale_avg_sq"] > 0
    assert torch.equal(state["scale_avg_sq"], twin_state["scale_avg_sq"])

    frozen = {key: state[key].clone() for key in ("delta", "exp_avg_sq")}
    weight.grad = torch.randn(4, 3)
    mask_gradients({"w": weight}, {"w": ~mask})
    before = weight.detach().clone()
    with protected(optimizer, {"w": weight}, {"w": ~mask}):
        optimizer.step()
    assert torch.equal(weight[mask], before[mask]), "momentum does not move what trained before"
    assert not torch.equal(weight[~mask], before[~mask])
    for key, old in frozen.items():
        assert torch.equal(state[key][mask], old[mask]), key
