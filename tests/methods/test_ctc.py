"""CTC models under every method that can train them: losses and gradients against torch's own CTC, and whole runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slimasr.config.encoder_section import TreeConfig
from slimasr.config.loss import AuxiliaryConfig, LossConfig
from slimasr.config.method import MultiExitConfig, TodmConfig
from slimasr.data.batches.batch import Batch
from slimasr.methods import build_method
from slimasr.methods.base import Method
from slimasr.methods.collaborative import Collaborative
from slimasr.methods.multi_exit import MultiExit
from slimasr.methods.slimmable import Slimmable
from slimasr.methods.todm import Todm
from slimasr.objective.objective import Objective
from slimasr.supernet.build import branch_space, build_space
from slimasr.supernet.space import LayerSpace, WidthSpace
from slimasr.supernet.subnet import Subnet
from tests.methods.kit import aligned, context, gradients, make_objective, run, weights_of
from tests.tiny import CTC_MODEL, ENCODER, batch
from tests.training import kit
from tests.training.kit import tiny_config, tiny_tokenizer

LOSS = LossConfig()
WEIGHTS = weights_of(LOSS, CTC_MODEL)
DATA = batch((60, 47, 31), (4, 2, 3))


def objective() -> Objective:
    return make_objective(LOSS, (1.0, 0.5), CTC_MODEL.model_copy(update={"exits": [1, 3]}))


def by_torch(target: Objective, data: Batch, subnet: Subnet) -> Tensor:
    """The summed loss, by torch's CTC on the product with the output layer that the subnet names."""
    model = target.model
    encoded = model.encode(data.x, data.x_lens, subnet)
    head = model.get_submodule("output" if subnet.head is None else f"heads.{subnet.head}")
    logits = F.linear(encoded.out, head.weight[:, : encoded.out.shape[2]], head.bias)  # type: ignore[index,arg-type]
    log_probs = logits.log_softmax(-1).transpose(0, 1)
    return F.ctc_loss(log_probs, data.y, encoded.lens, data.y_lens, reduction="sum")


def test_ctc_is_the_only_loss_and_has_weight_one() -> None:
    assert WEIGHTS == {"ctc": 1.0}
    assert objective().model.main_loss == "ctc"


METHODS: list[tuple[Method, list[tuple[Subnet, float]]]] = [
    (Slimmable(WidthSpace((1.0, 0.5)), WEIGHTS), [(Subnet(1.0), 1.0), (Subnet(0.5), 1.0)]),
    (
        Todm(LayerSpace((3, 1), (), (1.0, 0.5)), WEIGHTS, TodmConfig(num_random=0, share=1.0), None),
        [(Subnet(1.0), 1.0), (Subnet(0.5, (0,)), 1.0)],
    ),
    (
        MultiExit(LayerSpace((3, 1)), WEIGHTS, (1, 3), MultiExitConfig(exit_weight=0.3)),
        [(Subnet(), 1.0), (Subnet(1.0, (0,), head="exit1"), 0.3), (Subnet(1.0, (0, 1, 2), head="exit3"), 0.3)],
    ),
]


@pytest.mark.parametrize(("method", "passes"), METHODS, ids=lambda value: type(value).__name__)
def test_the_gradient_is_that_of_torchs_ctc(method: Method, passes: list[tuple[Subnet, float]]) -> None:
    target = objective()
    assert not method.share_predictor
    planned = method.plan(DATA, context())
    assert [(item.subnet, item.losses["ctc"]) for item in planned] == passes
    report = run(method, target, DATA)
    found = gradients(target)
    target.zero_grad(set_to_none=True)
    total = torch.zeros(())
    for item, (subnet, weight) in zip(planned, passes, strict=True):
        loss = by_torch(target, DATA, subnet)
        assert report.losses[f"{item.name}/ctc"] == pytest.approx(loss.item(), rel=1e-5)
        total = total + weight * loss / DATA.num_tokens
    total.backward()
    for name, value in gradients(target).items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-4, msg=name)


def test_an_exit_leaves_the_other_outputs_alone() -> None:
    target = objective()
    loss = by_torch(target, DATA, Subnet(1.0, (0,), head="exit1"))
    loss.backward()
    found = {name for name, value in gradients(target).items() if value.any() and not name.startswith("model.encoder")}
    assert found == {"model.heads.exit1.weight", "model.heads.exit1.bias"}


def test_branches_of_a_tree_learn_frame_targets_and_posteriors() -> None:
    auxiliary = AuxiliaryConfig(layers=[2], output=True, hidden_dim=5, aux_weight=0.1, kl_weight=0.3)
    loss = LossConfig(auxiliary=auxiliary)
    tree = ENCODER.model_copy(update={"tree": TreeConfig(shared=1, depths=[3, 2])})
    target = make_objective(loss, (1.0,), CTC_MODEL.model_copy(update={"encoder": tree}))
    space = branch_space(tree.paths)
    data = aligned(DATA)
    report = run(Collaborative(space, weights_of(loss, CTC_MODEL), 0.3), target, data)
    learnt = {f"{space.min.id}/frame_distillation"}
    assert report.losses.keys() == {f"{subnet.id}/{name}" for subnet in space for name in ("ctc", "auxiliary")} | learnt
    for subnet in space:
        assert report.losses[f"{subnet.id}/ctc"] == pytest.approx(by_torch(target, data, subnet).item(), rel=1e-5)
    assert all(value.any() for name, value in gradients(target).items() if "frame_heads" in name)


SECTIONS: dict[str, dict[str, Any]] = {
    "slimmable": {"space": {"widths": [0.5, 1.0]}},
    "todm": {"space": {"kind": "layers", "widths": [1.0], "depths": [2, 1]}},
    "separate": {"space": {"widths": [1.0]}},
    "multi_exit": {"space": {"kind": "layers", "widths": [1.0], "depths": [2, 1]}},
}
EVALUATED = {
    "slimmable": ["w1", "w0.5"],
    "todm": ["w1", "w1-l1-exit1"],
    "separate": ["w1"],
    "multi_exit": ["w1", "w1-l1-exit1"],
}


@pytest.mark.parametrize("kind", SECTIONS)
@pytest.mark.parametrize("encoder", ["conformer", "mh_ssm"])
def test_it_trains_and_every_subnet_is_validated(tmp_path: Path, kind: str, encoder: str) -> None:
    sizes: dict[str, Any] = {"num_heads": 2, "head_dim": 8, "kernel_size": 3} if encoder == "conformer" else {}
    layers = {"kind": encoder, "d_model": 16, "num_layers": 2, "ffn_dim": 32, "dropout": 0.0, **sizes}
    model = {"kind": "ctc", "num_mel_bins": 20, "frontend": {"channels": 4}, "encoder": layers, "dropout": 0.1}
    exits = [] if kind in ("slimmable", "separate") else [1, 2]
    config = tiny_config(
        training={"num_epochs": 3, "optimizer": {"lr": 5e-3}},
        model={**model, "exits": exits},
        method={"kind": kind},
        **SECTIONS[kind],
    )
    target = kit.make_objective(config, tiny_tokenizer())
    before = {name: p.detach().clone() for name, p in target.named_parameters()}
    method = build_method(config, build_space(config), target.model)
    trainer = kit.make_trainer(config, tmp_path, method=method, objective=target)
    trainer.run()
    records = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    first, last = records[0]["dev"], records[-1]["dev"]
    assert last.keys() == {f"{subnet}/{figure}" for subnet in EVALUATED[kind] for figure in ("ctc", "wer")}
    assert all(last[f"{subnet}/ctc"] < first[f"{subnet}/ctc"] for subnet in EVALUATED[kind])
    used = ["output", *(f"heads.exit{depth}" for depth in exits if kind == "multi_exit" or depth == 1)]
    moved = {name for name, p in target.named_parameters() if not torch.equal(p, before[name])}
    assert {f"model.{name}.weight" for name in used} <= moved
    assert (tmp_path / "final.pt").exists()
