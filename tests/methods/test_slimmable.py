"""Slimmable steps: the gradient is the sum over widths, and nothing outside a slice moves."""

from __future__ import annotations

import pytest
import torch

from slimasr.config.loss import LossConfig
from slimasr.config.model import LstmPredictorConfig
from slimasr.data.batches.batch import Batch
from slimasr.elastic.norm import norm_parameters
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.methods.separate import Separate
from slimasr.methods.slimmable import Slimmable
from slimasr.models.transducer import Transducer
from slimasr.objective.objective import Objective
from slimasr.supernet.space import WidthSpace
from slimasr.supernet.subnet import Subnet
from tests.methods.kit import gradients, make_objective, run, weights_of
from tests.tiny import FULL_LOSS, MODEL, VOCAB_SIZE, WIDTHS, batch

PRUNED = LossConfig(transducer="pruned", prune_range=3, ctc_weight=0.3)


def objective(loss: LossConfig = FULL_LOSS) -> Objective:
    return make_objective(loss, WIDTHS)


@pytest.mark.parametrize("share_predictor", [False, True])
@pytest.mark.parametrize("loss", [FULL_LOSS, PRUNED])
def test_gradient_is_the_sum_over_widths(loss: LossConfig, share_predictor: bool) -> None:
    target, data = objective(loss), batch()
    report = run(Slimmable(WidthSpace(WIDTHS), weights_of(loss), share_predictor), target, data)
    together, alone = gradients(target), {}
    for width in WIDTHS:
        run(Separate(WidthSpace((width,)), weights_of(loss)), target, data)
        alone[width] = gradients(target)
    for name, value in together.items():
        torch.testing.assert_close(value, sum(g[name] for g in alone.values()), atol=1e-6, rtol=1e-4)
    assert set(report.losses) == {f"w{w:g}/{name}" for w in WIDTHS for name in ("transducer", "ctc")}
    assert set(report.units.values()) == {float(data.num_tokens)} and not report.nonfinite


def test_gradient_outside_the_slice_is_exactly_zero_and_other_norms_are_untouched() -> None:
    target, data = objective(), batch()
    run(Separate(WidthSpace((0.5,)), weights_of(FULL_LOSS)), target, data)
    norms = norm_parameters(target)
    for name, parameter in target.named_parameters():
        if name in norms:
            assert (parameter.grad is None) == (f".affine.{8}." not in name), name
    weight = target.model.encoder.layers[1].parts["ffn1"].inner.weight
    assert weight.grad is not None
    assert (weight.grad[16:] == 0).all() and (weight.grad[:, 8:] == 0).all() and (weight.grad[:16, :8] != 0).any()


def test_a_step_equals_stand_alone_networks_holding_the_slices() -> None:
    """Gradient of a width inside the supernet = gradient of its extracted copy, in the slice it was cut from."""
    target, data = objective(), batch()
    for width in WIDTHS:
        run(Separate(WidthSpace((width,)), {"transducer": 1.0}), target, data)
        inside = target.model.encoder.layers[0].parts["ffn2"].outer.weight.grad
        alone = Objective(target.model.extract(Subnet(width)), FULL_LOSS)
        run(Separate(WidthSpace((1.0,)), {"transducer": 1.0}), alone, data)
        outside = alone.model.encoder.layers[0].parts["ffn2"].outer.weight.grad
        assert inside is not None and outside is not None
        rows, columns = outside.shape
        torch.testing.assert_close(inside[:rows, :columns], outside, atol=1e-6, rtol=1e-4)


def test_the_pruned_loss_with_a_full_range_is_the_full_loss() -> None:
    data = batch()
    wide = PRUNED.model_copy(update={"prune_range": 5, "warmup": 0.0, "simple_scale": 0.0})
    model = objective(wide).model
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    pruned = Objective(model, wide)(data, Subnet(0.5), ["transducer"]).losses["transducer"]
    full = Objective(model, FULL_LOSS)(data, Subnet(0.5), ["transducer"]).losses["transducer"]
    torch.testing.assert_close(pruned, full, atol=1e-4, rtol=1e-4)


def test_warm_up_fades_the_simple_loss() -> None:
    target, data = objective(PRUNED), batch()

    def at(progress: float) -> torch.Tensor:
        return target(data, None, ["transducer"], progress).losses["transducer"]

    early, half, late = at(0.0), at(0.05), at(0.1)
    torch.testing.assert_close(half, (early + late) / 2)
    torch.testing.assert_close(at(0.7), late)


def test_a_shared_predictor_serves_passes_on_part_of_the_batch() -> None:
    class Parts(Slimmable):
        def plan(self, data: Batch, context: StepContext) -> list[Pass]:
            return [Pass(self.space.max, self.losses), Pass(self.space.min, self.losses, rows=(2, 1))]

    target, data, results = objective(), batch(), []
    for share in (False, True):
        run(Parts(WidthSpace(WIDTHS), weights_of(FULL_LOSS), share), target, data)
        results.append(gradients(target))
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, atol=1e-6, rtol=1e-4)


class HalfAndHalf(Method):
    """Max on all rows, min on two of them, the second taught by the first."""

    def plan(self, data: Batch, context: StepContext) -> list[Pass]:
        first = Pass(self.space.max, self.losses)
        return [first, Pass(self.space.min, self.losses, rows=(2, 0), teacher=0)]

    def substitutes(
        self, objective: Objective, item: Pass, data: Batch, context: StepContext
    ) -> dict[str, torch.Tensor]:
        halved = ("model.predictor.lstm.weight_hh_l0", "model.joiner.output.weight")
        return {name: p * 0.5 for name, p in objective.named_parameters() if name in halved and item.teacher == 0}


def test_rows_and_substitutes_reach_the_losses() -> None:
    loss = LossConfig(transducer="full")
    config = MODEL.model_copy(update={"predictor": LstmPredictorConfig(dim=8, embedding_dim=6, dropout=0.0)})
    target = Objective(Transducer(config, VOCAB_SIZE, WIDTHS, loss).eval(), loss)
    data = batch()
    report = run(HalfAndHalf(WidthSpace(WIDTHS), weights_of(loss)), target, data)
    with torch.no_grad():
        target.get_parameter("model.predictor.lstm.weight_hh_l0").mul_(0.5)
        target.get_parameter("model.joiner.output.weight").mul_(0.5)
        want = target(data.select((2, 0)), Subnet(0.25), ["transducer"]).losses["transducer"].sum()
    assert report.losses["w0.25/transducer"] == pytest.approx(float(want), rel=1e-5)
