"""Parameter groups, and updates that must leave chosen weights alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slimasr.config.schema import AdamWConfig
from slimasr.methods.base import ParameterGroup
from slimasr.training.optimizer import (
    build_optimizer,
    fill_missing_gradients,
    mask_gradients,
    protected,
    set_learning_rate,
    undecayed_parameters,
)
from tests.training.kit import make_objective, tiny_config, tiny_tokenizer


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
