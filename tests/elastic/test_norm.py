"""Norms per width: equal to torch's, untouched while another width runs, statistics over valid frames alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from slimasr.elastic.norm import (
    ElasticBatchNorm,
    ElasticLayerNorm,
    NormMode,
    calibration,
    norm_parameters,
)

PADDING = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
MODES: list[NormMode] = ["per_width", "shared", "recalibrated"]


def masked_rows(x: torch.Tensor) -> torch.Tensor:
    return x[~PADDING]


@pytest.mark.parametrize("width", [8, 4])
def test_batch_norm_equals_torch_over_valid_frames(width: int) -> None:
    ours, torch_norm = ElasticBatchNorm(8, (8, 4), "per_width"), nn.BatchNorm1d(width)
    for _ in range(3):
        x = torch.randn(2, 5, width) * 2 + 1
        got, want = ours(x, PADDING, width), torch_norm(masked_rows(x))
        torch.testing.assert_close(masked_rows(got), want)
    stats = ours.stats[str(width)]
    torch.testing.assert_close(stats.mean, torch_norm.running_mean)
    torch.testing.assert_close(stats.var, torch_norm.running_var)
    ours.eval(), torch_norm.eval()
    x = torch.randn(2, 5, width)
    torch.testing.assert_close(masked_rows(ours(x, PADDING, width)), torch_norm(masked_rows(x)))


def test_gradient_equals_torch() -> None:
    ours, torch_norm = ElasticBatchNorm(4, (4,), "per_width").double(), nn.BatchNorm1d(4).double()
    x = torch.randn(2, 5, 4, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    weight = torch.randn(8, 4)
    (masked_rows(ours(x, PADDING, 4)) * weight).sum().backward()
    (torch_norm(masked_rows(y.double())) * weight).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, atol=1e-4, rtol=1e-4)


def test_derivatives_agree_with_finite_differences() -> None:
    """Of all frames: outputs on padding depend on the statistics, and so do their gradients."""
    norm = ElasticBatchNorm(3, (3,), "per_width").double()
    arguments = (torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(3).double(), torch.randn(3).double())
    for tensor in arguments:
        tensor.requires_grad_()

    def run(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        parameters = {"affine.3.weight": weight, "affine.3.bias": bias}
        return torch.func.functional_call(norm, parameters, (x, PADDING, 3))

    assert torch.autograd.gradcheck(run, arguments)


def test_statistics_keep_their_precision_under_autocast() -> None:
    norms = [ElasticBatchNorm(4, (4,), "per_width") for _ in range(2)]
    x = torch.randn(2, 5, 4).to(torch.bfloat16)
    want = norms[0](x.float(), PADDING, 4)
    with torch.autocast("cpu", torch.bfloat16):
        got = norms[1](x, PADDING, 4)
    assert got.dtype == torch.float32 and torch.equal(got, want)
    assert torch.equal(norms[0].stats["4"].var, norms[1].stats["4"].var)


@pytest.mark.parametrize("mode", ["per_width", "recalibrated"])
def test_running_one_width_leaves_the_others_bit_identical(mode: NormMode) -> None:
    norm = ElasticBatchNorm(8, (8, 4), mode)
    norm(torch.randn(2, 5, 8), PADDING, 8)
    before = copy.deepcopy(norm.stats["8"].state_dict())
    norm(torch.randn(2, 5, 4), PADDING, 4).sum().backward()
    assert all(torch.equal(before[key], value) for key, value in norm.stats["8"].state_dict().items())
    if mode == "per_width":
        assert norm.affine["8"].weight.grad is None and norm.affine["4"].weight.grad is not None


def test_unknown_width_is_an_error() -> None:
    with pytest.raises(ValueError, match="no norm for width 6"):
        ElasticLayerNorm(8, (8, 4), "per_width")(torch.randn(1, 2, 6))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("width", [8, 4])
def test_extraction_is_torchs_norm(mode: NormMode, width: int) -> None:
    norm = ElasticLayerNorm(8, (8, 4), mode)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(3, 2, width)
    alone = norm.extract(width)
    reference = nn.LayerNorm(width)
    with torch.no_grad():
        reference.weight.copy_(alone.affine[str(width)].weight)
        reference.bias.copy_(alone.affine[str(width)].bias)
    torch.testing.assert_close(norm(x), reference(x))
    torch.testing.assert_close(alone(x), reference(x))


def test_units_of_a_width_use_their_own_statistics() -> None:
    norm = ElasticBatchNorm(8, (8, 4), "per_width")
    for _ in range(2):
        norm(torch.randn(2, 5, 8) * 3, PADDING, 8)
    norm.eval()
    x, units = torch.randn(2, 5, 3), torch.tensor([1, 4, 6])
    full = torch.zeros(2, 5, 8)
    full[..., units] = x
    torch.testing.assert_close(norm(x, PADDING, 8, units), norm(full, PADDING, 8)[..., units])
    torch.testing.assert_close(norm.extract(8, units).eval()(x, PADDING, 3), norm(x, PADDING, 8, units))


def test_calibration_is_a_cumulative_average_and_restores_modes() -> None:
    model = nn.ModuleDict({"bn": ElasticBatchNorm(4, (4,), "per_width"), "drop": nn.Dropout(0.5)})
    bn, reference = model["bn"], nn.BatchNorm1d(4, momentum=None)
    bn(torch.randn(2, 5, 4) * 9, PADDING, 4)
    batches = [torch.randn(2, 5, 4) + i for i in range(4)]
    with calibration(model):
        assert not model["drop"].training
        for x in batches:
            bn(x, PADDING, 4)
            reference(masked_rows(x))
    torch.testing.assert_close(bn.stats["4"].mean, reference.running_mean)
    torch.testing.assert_close(bn.stats["4"].var, reference.running_var)
    assert model["drop"].training and bn.momentum == 0.1


def test_norm_parameters_are_found_by_name() -> None:
    model = nn.ModuleDict({"bn": ElasticBatchNorm(8, (8, 4), "per_width"), "linear": nn.Linear(2, 2)})
    expected = {f"bn.affine.{n}.{p}" for n in (4, 8) for p in ("weight", "bias")}
    assert norm_parameters(model) == expected
    assert expected <= {name for name, _ in model.named_parameters()}
