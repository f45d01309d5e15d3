"""Exits trained together: the gradient of one shared encoder pass is that of all passes one by one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from slimasr.config.loss import AuxiliaryConfig, LossConfig
from slimasr.config.method import MultiExitConfig
from slimasr.methods import build_method
from slimasr.methods.multi_exit import MultiExit
from slimasr.objective.objective import Objective
from slimasr.supernet.build import build_space
from slimasr.supernet.space import LayerSpace
from slimasr.supernet.subnet import Subnet
from tests.methods.kit import aligned, context, gradients, make_objective, run, weights_of
from tests.tiny import MODEL, batch
from tests.training import kit
from tests.training.kit import tiny_config, tiny_tokenizer

EXITS = (1, 3)
AUXILIARY = AuxiliaryConfig(layers=[2, 3], hidden_dim=5)
LOSSES = [
    LossConfig(transducer="full"),
    LossConfig(transducer="pruned", prune_range=3, ctc_weight=0.3),
    LossConfig(transducer="full", auxiliary=AUXILIARY),
]
FIRST = Subnet(1.0, (0,), head="exit1")
LAST = Subnet(1.0, (0, 1, 2), head="exit3")
DATA = aligned(batch((60, 47, 31), (4, 2, 3)))


def objective(loss: LossConfig) -> Objective:
    return make_objective(loss, model=MODEL.model_copy(update={"exits": list(EXITS)}))


def multi_exit(loss: LossConfig, weight: float = 0.3, exits: tuple[int, ...] = EXITS) -> MultiExit:
    return MultiExit(LayerSpace((3, 1)), weights_of(loss), exits, MultiExitConfig(exit_weight=weight))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_is_that_of_full_depth_and_exits_run_one_by_one(loss: LossConfig) -> None:
    target = objective(loss)
    report = run(multi_exit(loss), target, DATA)
    found = gradients(target)
    target.zero_grad(set_to_none=True)
    total = torch.zeros(())
    for subnet, scale in ((Subnet(), 1.0), (FIRST, 0.3), (LAST, 0.3)):
        weights = {name: w for name, w in weights_of(loss).items() if name != "auxiliary" or subnet == Subnet()}
        output = target(DATA, subnet, tuple(weights), context().progress)
        total = total + scale * output.total(weights)
        role = subnet.head or "w1"
        for name in weights:
            assert report.losses[f"{role}/{name}"] == pytest.approx(output.losses[name].sum().item(), rel=1e-5)
    total.backward()
    for name, value in gradients(target).items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-4)
    assert {key.split("/")[0] for key in report.losses} == {"w1", "exit1", "exit3"}


def test_an_exit_trains_itself_and_what_lies_below() -> None:
    """The gradient that an exit adds: none above it, none in the other projections."""
    loss, target = LOSSES[0], objective(LOSSES[0])
    run(multi_exit(loss), target, DATA)
    once = gradients(target)
    run(multi_exit(loss, weight=0.6), target, DATA)
    added = {name: value - once[name] for name, value in gradients(target).items()}
    run(multi_exit(loss, exits=(1,)), target, DATA)
    first = gradients(target)
    run(multi_exit(loss, weight=0.6, exits=(1,)), target, DATA)
    of_first = {name: value - first[name] for name, value in gradients(target).items()}
    assert added["model.heads.exit3.linear.weight"].any() and added["model.heads.exit1.norm.affine.12.weight"].any()
    assert of_first["model.heads.exit1.linear.weight"].any()
    assert of_first["model.encoder.layers.0.parts.ffn1.inner.weight"].any()
    assert of_first["model.predictor.embedding.weight"].any() and of_first["model.joiner.output.weight"].any()
    for name in of_first:
        if ".layers.1." in name or ".layers.2." in name or name.startswith("model.joiner.encoder_proj"):
            torch.testing.assert_close(gradients(target)[name], first[name], atol=0.0, rtol=0.0)
    assert not gradients(target)["model.heads.exit3.linear.weight"].any()
    torch.testing.assert_close(added["model.joiner.encoder_proj.weight"], torch.zeros(12, 16), atol=0.0, rtol=0.0)


@pytest.mark.parametrize("kind", ["conformer", "mh_ssm"])
def test_it_trains_and_every_exit_is_validated(tmp_path: Path, kind: str) -> None:
    encoder = {"kind": kind, "d_model": 16, "num_layers": 2, "dropout": 0.0}
    sizes = {"num_heads": 2, "head_dim": 8, "ffn_dim": 32, "kernel_size": 3} if kind == "conformer" else {"ffn_dim": 32}
    config = tiny_config(
        model={"encoder": {**encoder, **sizes}, "exits": [1, 2]},
        space={"kind": "layers", "widths": [1.0], "depths": [2, 1]},
        method={"kind": "multi_exit"},
    )
    target = kit.make_objective(config, tiny_tokenizer())
    before = {name: p.detach().clone() for name, p in target.named_parameters()}
    method = build_method(config, build_space(config), target.model)
    assert [item.name for item in method.evaluated()] == ["w1", "w1-l1-exit1"]
    trainer = kit.make_trainer(config, tmp_path, method=method, objective=target)
    trainer.run()
    (record,) = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()][-1:]
    assert {f"{role}/transducer" for role in ("w1", "exit1", "exit2")} <= record["train"].keys()
    assert {"w1/transducer", "w1/wer", "w1-l1-exit1/transducer", "w1-l1-exit1/wer"} <= record["dev"].keys()
    moved = {name for name, p in target.named_parameters() if not torch.equal(p, before[name])}
    assert {"model.heads.exit1.linear.weight", "model.heads.exit2.norm.affine.16.bias"} <= moved
    assert {name for name in before if name.startswith(("model.heads", "model.joiner"))} <= moved
