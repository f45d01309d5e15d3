"""Fake quantisation against float64 arithmetic and the cost model."""

from __future__ import annotations

import pytest
import torch

from slimasr.export.int8 import LEVELS, fake_quantized, quantized_weights, scales
from slimasr.models.pathways import prunable_matrices
from slimasr.supernet.subnet import Subnet
from tests.export.models import MODELS, make_model
from tests.models.pathway_kit import pathway_model
from tests.tiny import features

HIDDEN = {"conformer": "ffn1", "mh_ssm": "ffn", "emformer": "ffn", "convolved": "conv"}


@pytest.mark.parametrize("kind", MODELS)
def test_quantised_weights_are_those_that_costs_count(kind: str) -> None:
    supernet = make_model(kind, (1.0, 0.5))
    narrow = Subnet(1.0, (0,), ((f"0.{HIDDEN[kind]}", 8),))
    for subnet in (Subnet(), Subnet(0.5), narrow):
        joiner = supernet.joiner.count(supernet.width_of(subnet), 0)
        counted = supernet.encoder.count(subnet, 100) + joiner + supernet.predictor.count()
        weights = [weight for _, weight in quantized_weights(supernet.extract(subnet))]
        assert sum(weight.numel() for weight in weights) == counted.quantized
        assert sum(len(scales(weight)) for weight in weights) == counted.scales
        assert supernet.count(subnet).int8_bytes == counted.int8_bytes


@pytest.mark.parametrize("kind", MODELS)
def test_weights_are_rounded_to_the_nearest_of_255_levels(kind: str) -> None:
    model = make_model(kind)
    original, rounded = dict(model.named_parameters()), fake_quantized(model)
    names = {name for name, _ in quantized_weights(model)}
    assert 0 < len(names) < len(original)
    for name, got in rounded.named_parameters():
        if name not in names:
            assert torch.equal(got, original[name]), name
            continue
        weight = original[name].detach()
        step = weight.double().abs().amax(dim=1, keepdim=True) / 127
        assert ((got - weight).abs() <= 0.5 * step * (1 + 1e-5)).all()
        levels = got.double() / step
        assert torch.allclose(levels, levels.round(), atol=1e-4)
        assert torch.equal(levels.round().abs().amax(dim=1), torch.full((len(weight),), 127.0).double())


def test_rows_of_zeros_stay_zero_and_the_model_stays_as_it_is() -> None:
    model = make_model("conformer")
    with torch.no_grad():
        model.joiner.output.weight[2] = 0.0
        model.joiner.output.weight[3] = 1e-42
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rounded = fake_quantized(model)
    assert not rounded.joiner.output.weight[2].any()
    assert rounded.joiner.output.weight.isfinite().all()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    again = fake_quantized(rounded)
    for name, value in rounded.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-6, atol=1e-9)


def test_scales_are_those_of_the_slice() -> None:
    """A subnet is cut out first: the largest weight of a row may lie outside its slice."""
    supernet = make_model("conformer", (1.0, 0.5))
    with torch.no_grad():
        supernet.joiner.encoder_proj.weight[:, -1] = 50.0
    half = fake_quantized(supernet, Subnet(0.5)).joiner.encoder_proj.weight
    expected = supernet.extract(Subnet(0.5)).joiner.encoder_proj.weight
    assert (half - expected).abs().max() <= 0.51 * expected.abs().max() / LEVELS
    prefix_of_whole = fake_quantized(supernet).joiner.encoder_proj.weight[:, : half.shape[1]]
    assert (prefix_of_whole - expected).abs().max() > 5 * (half - expected).abs().max()


@pytest.mark.parametrize("kind", MODELS)
def test_outputs_move_a_little(kind: str) -> None:
    model = make_model(kind)
    x, x_lens = features((60, 47))
    with torch.no_grad():
        exact, rounded = model(x, x_lens).out, fake_quantized(model)(x, x_lens).out
    error = (rounded - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert 1e-5 < error < 0.05


def test_a_pathway_keeps_its_zeros_and_has_the_scales_of_what_it_keeps() -> None:
    model = pathway_model()
    pathway = Subnet(pathway="fr")
    exact = prunable_matrices(model.extract(pathway))
    rounded = prunable_matrices(fake_quantized(model, pathway))
    for name, weight in exact.items():
        assert not rounded[name][weight == 0].any(), name
        step = weight.double().abs().amax(dim=1, keepdim=True) / 127
        assert ((rounded[name] - weight).abs() <= 0.5 * step * (1 + 1e-5)).all(), name
