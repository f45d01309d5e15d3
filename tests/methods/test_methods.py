"""What all methods have in common: the table, and computation that passes declare to share."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch

from slimasr.config.loss import AuxiliaryConfig, LossConfig
from slimasr.config.method import MethodConfig
from slimasr.data.batches.batch import Batch
from slimasr.methods import METHODS, build_method
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.objective.objective import loss_weights
from slimasr.supernet.build import build_space
from slimasr.supernet.space import LayerSpace
from slimasr.supernet.subnet import Subnet
from tests.methods.kit import aligned, gradients, make_objective, run, weights_of
from tests.tiny import batch
from tests.training import kit
from tests.training.kit import tiny_config

PLAIN = LossConfig(transducer="full", ctc_weight=0.3)
WITH_TARGETS = LossConfig(transducer="full", auxiliary=AuxiliaryConfig(layers=[1, 3], hidden_dim=5))
SPACE = LayerSpace((3, 2, 1))
DATA = aligned(batch((60, 47, 55, 31), (4, 2, 5, 1)))


def test_the_table_has_every_kind_that_a_recipe_may_name() -> None:
    union, _ = get_args(MethodConfig)
    sections = {section.model_fields["kind"].default: section for section in get_args(union)}
    assert sections == {kind: section for kind, (section, _) in METHODS.items()}


@pytest.mark.parametrize("kind", METHODS)
def test_every_method_is_built_from_its_recipe(kind: str) -> None:
    space: dict[str, Any] = {"kind": "layers", "depths": [2, 1], "widths": [1.0]}
    encoder: dict[str, Any] = {"num_layers": 2}
    if kind == "collaborative":
        space = {"kind": "branches"}
        encoder["tree"] = {"shared": 0, "depths": [2, 1]}
    settings: dict[str, Any] = {"kind": kind}
    if kind == "mask_learning":
        space = {"kind": "learnt"}
        settings["budgets"] = [0.9]
    if kind == "pathways":
        space = {"kind": "pathways", "languages": ["fr"]}
    config = tiny_config(
        training={"average_start": 0.8}, method=settings, space=space, model={"encoder": encoder, "exits": [1, 2]}
    )
    method = build_method(config, build_space(config), kit.make_objective(config, kit.tiny_tokenizer()).model)
    assert type(method) is METHODS[kind][1]
    assert method.losses == loss_weights(config)
    assert method.share_predictor == (kind not in ("separate", "pathways"))


class Depths(Method):
    """Three depths on different utterances, the middle one also handing on its first layer's hidden states."""

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        low, middle = Subnet(1.0, (0,)), Subnet(1.0, (0, 1))
        return [
            Pass(self.space.max, self.losses),
            Pass(low, self.losses, rows=(2, 0)),
            Pass(middle, self.losses, rows=(3,), taps=(0,)),
        ]


@pytest.mark.parametrize("loss", [PLAIN, WITH_TARGETS])
@pytest.mark.parametrize("share_predictor", [False, True])
def test_a_shared_encoder_serves_depths_on_part_of_the_batch(loss: LossConfig, share_predictor: bool) -> None:
    target, results, reports = make_objective(loss), [], []
    for share_encoder in (False, True):
        method = Depths(SPACE, weights_of(loss), share_predictor, share_encoder)
        reports.append(run(method, target, DATA))
        results.append(gradients(target))
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, atol=1e-6, rtol=1e-4, msg=name)
    assert reports[1].losses == pytest.approx(reports[0].losses, rel=1e-5)


def test_a_shared_encoder_runs_once() -> None:
    target, calls = make_objective(PLAIN), []
    for index, layer in enumerate(target.model.encoder.layers):
        layer.register_forward_hook(lambda *_, index=index: calls.append(index))
    run(Depths(SPACE, weights_of(PLAIN), share_encoder=True), target, DATA)
    assert calls == [0, 1, 2]


@pytest.mark.parametrize("other", [Subnet(0.5), Subnet(1.0, None, (("0.ffn1", 8),))])
def test_only_subnets_of_one_width_without_units_can_share_an_encoder(other: Subnet) -> None:
    class Unlike(Method):
        def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
            return [Pass(self.space.max, self.losses), Pass(other, self.losses)]

    with pytest.raises(AssertionError, match=f"{other.id} cannot share an encoder"):
        run(Unlike(SPACE, weights_of(PLAIN), share_encoder=True), make_objective(PLAIN, (1.0, 0.5)), DATA)
