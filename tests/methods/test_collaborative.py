"""Branches trained together: gradients are those of all branches in one graph, with and without shared layers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slimasr.config.encoder_section import EncoderSection
from slimasr.config.encoders import EmformerConfig
from slimasr.config.load import load_config, parse_config
from slimasr.config.loss import AuxiliaryConfig, LossConfig
from slimasr.encoders.base import EncoderOutput
from slimasr.methods import build_method, resolve_config
from slimasr.methods.collaborative import Collaborative
from slimasr.objective.objective import Objective
from slimasr.objective.passes import PassInputs
from slimasr.supernet.build import branch_space, build_space
from slimasr.supernet.list_space import ListSpace
from tests.methods.kit import aligned, context, gradients, make_objective, run, weights_of
from tests.recipes.conftest import EGS
from tests.tiny import MODEL, batch
from tests.training import kit
from tests.training.kit import tiny_config, tiny_tokenizer

DATA = aligned(batch((60, 47, 55), (4, 2, 3)))
DATA = replace(DATA, x=DATA.x.double())
CTC = LossConfig(transducer="full", ctc_weight=0.3)
FRAMES = LossConfig(
    transducer="full",
    auxiliary=AuxiliaryConfig(layers=[1, 3], output=True, hidden_dim=5, aux_weight=0.1, kl_weight=0.3),
    alignments=Path("alignments"),
    per="utterance",
)


EMFORMER = EmformerConfig(
    d_model=16, num_heads=2, ffn_dim=32, segment=2, left_context=3, right_context=1, memory=2, dropout=0.0
)
"""Its layers hand on copies of the right context and summaries, besides the frames."""
CONVOLVED = EMFORMER.model_copy(update={"macaron": True, "conv_kernel": 4, "memory": 0})


def tree(
    shared: int, depths: list[int], loss: LossConfig = CTC, base: EncoderSection = MODEL.encoder
) -> tuple[Objective, ListSpace]:
    """A tiny encoder with these branches, in double precision."""
    sizes = {**base.model_dump(), "num_layers": depths[0], "tree": {"shared": shared, "depths": depths}}
    encoder = type(base).model_validate(sizes)
    target = make_objective(loss, model=MODEL.model_copy(update={"encoder": encoder})).double()
    return target, branch_space(encoder.paths)


def divergence(target: Objective, student: EncoderOutput, teacher: EncoderOutput) -> Tensor:
    """KL(teacher || student) of the frame posteriors, a mean over utterances of sums over frames."""
    with torch.no_grad():
        wanted = target.model.frame_logits(teacher.out, None).log_softmax(dim=2)
    found = target.model.frame_logits(student.out, None).log_softmax(dim=2)
    total = torch.zeros((), dtype=torch.float64)
    for row, frames in enumerate(student.lens.tolist()):
        total = total + F.kl_div(found[row, :frames], wanted[row, :frames], reduction="sum", log_target=True)
    return total / len(student.lens)


@pytest.mark.parametrize(
    ("base", "loss", "shared"),
    [
        (MODEL.encoder, CTC, 0),
        (MODEL.encoder, CTC, 2),
        (MODEL.encoder, FRAMES, 1),
        (EMFORMER, FRAMES, 0),
        (EMFORMER, FRAMES, 2),
        (CONVOLVED, FRAMES, 2),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_the_gradient_is_that_of_all_branches_in_one_graph(base: EncoderSection, loss: LossConfig, shared: int) -> None:
    target, space = tree(shared, [4, 3], loss, base)
    weights = weights_of(loss)
    kl_weight = 0.0 if loss.auxiliary is None else 0.3
    report = run(Collaborative(space, weights, kl_weight), target, DATA)
    found = gradients(target)
    target.zero_grad(set_to_none=True)
    predictor_out = target.model.predictor(DATA.y)
    total = torch.zeros((), dtype=torch.float64)
    outputs = []
    for subnet in space:
        encoder = target.model.encode(DATA.x, DATA.x_lens, subnet, target.taps_of(subnet, tuple(weights)))
        outputs.append(encoder)
        inputs = PassInputs(encoder=encoder, predictor_out=predictor_out)
        output = target(DATA, subnet, tuple(weights), context().progress, inputs)
        # All branches have equal weight.
        total = total + output.total(weights)
        for name in weights:
            assert report.losses[f"{subnet.id}/{name}"] == pytest.approx(output.losses[name].sum().item(), rel=1e-9)
    if kl_weight:
        total = total + kl_weight * divergence(target, outputs[1], outputs[0])
    total.backward()
    for name, value in gradients(target).items():
        torch.testing.assert_close(found[name], value, atol=1e-11, rtol=1e-9, msg=name)


def test_only_layers_that_are_shared_and_the_predictor_run_once() -> None:
    target, space = tree(1, [3, 2])
    calls: list[str] = []
    modules = {f"layer {i}": layer for i, layer in enumerate(target.model.encoder.layers)}
    for name, module in {**modules, "predictor": target.model.predictor}.items():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    run(Collaborative(space, weights_of(CTC)), target, DATA)
    assert sorted(calls) == ["layer 0", "layer 1", "layer 2", "layer 3", "predictor"]


@pytest.mark.parametrize("recipe", ["slimmable", "separate", "todm", "todm_exits", "collaborative"])
def test_a_batch_counts_as_its_losses_are_averaged(recipe: str) -> None:
    # 14, 11 and 13 encoder frames after two convolutions of width 3 and stride 2
    for per, weight in (("unit", 9), ("token", 9), ("utterance", 3), ("frame", 38)):
        config, _ = resolve_config(load_config(EGS / f"an4/conf/{recipe}.yaml", [f"loss.per={per}"]))
        target = make_objective(LossConfig(transducer="full", per=config.loss.per))
        assert build_method(config, build_space(config), target.model).normalizer(target, DATA) == weight


def recipe(**changes: Any) -> dict[str, Any]:
    """A recipe with a small tree, with some sections changed."""
    encoder = {"num_layers": 3, "tree": {"shared": 1, "depths": [3, 2]}}
    sections: dict[str, Any] = {
        "name": "t",
        "data": {"corpus": "digits"},
        "model": {"encoder": encoder},
        "space": {"kind": "branches"},
        "method": {"kind": "collaborative"},
    }
    return {**sections, **changes}


def frames(kl_weight: float | None = None) -> dict[str, Any]:
    auxiliary = {"layers": [], "output": True, "shared": True, "aux_weight": 0.1, "kl_weight": kl_weight}
    return {"transducer": "full", "alignments": "alignments", "auxiliary": auxiliary}


@pytest.mark.parametrize(("kl_weight", "expected"), [(None, 0.1), (0.3, 0.3), (0.0, None)])
def test_all_but_the_deepest_branch_learn_from_it(kl_weight: float | None, expected: float | None) -> None:
    config = parse_config(recipe(loss=frames(kl_weight)))
    method = build_method(config, build_space(config), make_objective(CTC).model)
    deepest, other = method.plan(DATA, context())
    assert deepest.teacher is None and deepest.losses == {"transducer": 1.0, "auxiliary": 0.1}
    if expected is None:
        assert other.losses == deepest.losses and other.teacher is None
    else:
        assert other.losses == {**deepest.losses, "frame_distillation": expected} and other.teacher == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"kind": "widths"}, "model": {}}, "space: method collaborative trains the branches of a tree"),
        ({"method": {"kind": "slimmable"}, "loss": frames(0.1)}, "loss.auxiliary.kl_weight: method slimmable has no"),
        ({"loss": {"distillation": {}}}, "loss.distillation: method collaborative has no teacher"),
    ],
)
def test_recipes_that_cannot_be_trained_are_named_by_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_config(recipe(**changes))


@pytest.mark.parametrize("kind", ["conformer", "mh_ssm"])
def test_it_trains_any_encoder_and_every_branch_is_validated(tmp_path: Path, kind: str) -> None:
    encoder = {"kind": kind, "d_model": 16, "num_layers": 3, "dropout": 0.1, "tree": {"shared": 1, "depths": [3, 2]}}
    sizes = {"num_heads": 2, "head_dim": 8, "ffn_dim": 32, "kernel_size": 3} if kind == "conformer" else {"ffn_dim": 32}
    config = tiny_config(
        model={"encoder": {**encoder, **sizes}},
        space={"kind": "branches"},
        method={"kind": "collaborative"},
    )
    target = kit.make_objective(config, tiny_tokenizer())
    before = {name: p.detach().clone() for name, p in target.named_parameters()}
    kit.make_trainer(config, tmp_path, objective=target).run()
    record = json.loads((tmp_path / "train_log.jsonl").read_text().splitlines()[-1])
    ids = [subnet.id for subnet in build_space(config)]
    assert {f"{name}/transducer" for name in ids} <= record["train"].keys()
    assert {f"{name}/{figure}" for name in ids for figure in ("transducer", "wer")} <= record["dev"].keys()
    still = {name for name, p in target.named_parameters() if torch.equal(p, before[name])}
    # No layer of any branch is left untrained.
    assert not still
