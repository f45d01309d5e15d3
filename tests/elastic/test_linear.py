"""Sliced layers equal torch's own layers holding the slice, and leave the rest without gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from slimasr.elastic.index import Index, choose, in_blocks, in_groups, size_of
from slimasr.elastic.linear import ElasticConv2d, ElasticDepthwiseConv1d, ElasticLinear
from slimasr.supernet.subnet import ranges_of, scaled

SETS: list[Index] = [3, torch.tensor([0, 2, 5])]


def entries(index: Index) -> list[int]:
    return list(range(index)) if isinstance(index, int) else index.tolist()


@pytest.mark.parametrize("out", SETS)
@pytest.mark.parametrize("inp", SETS)
def test_linear_equals_torch_on_the_slice(out: Index, inp: Index) -> None:
    layer = ElasticLinear(6, 7)
    x = torch.randn(4, size_of(inp))
    rows, columns = entries(out), entries(inp)
    want = F.linear(x, layer.weight[rows][:, columns], layer.bias[rows])
    got = layer(x, out=out, inp=inp)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(layer.extract(out, inp)(x), want)
    got.square().sum().backward()
    assert layer.weight.grad is not None
    inside = torch.zeros(7, 6, dtype=torch.bool)
    inside[torch.tensor(rows).unsqueeze(1), torch.tensor(columns)] = True
    assert (layer.weight.grad[~inside] == 0).all() and (layer.weight.grad[inside] != 0).all()


@pytest.mark.parametrize("out", SETS)
def test_convolutions_equal_torch_on_the_slice(out: Index) -> None:
    conv = ElasticConv2d(4, 6, 3, 2)
    x = torch.randn(2, 2, 11, 9)
    want = F.conv2d(x, conv.weight[entries(out)][:, :2], conv.bias[entries(out)], stride=2)  # type: ignore[index]
    torch.testing.assert_close(conv(x, out=out, inp=2), want)
    torch.testing.assert_close(conv.extract(out, 2)(x), want)
    assert want.shape[2:] == (conv.output_size(11), conv.output_size(9))
    depthwise = ElasticDepthwiseConv1d(6, 5)
    x = torch.randn(2, 8, 3)
    bias = depthwise.bias[entries(out)]  # type: ignore[index]
    want = F.conv1d(x.transpose(1, 2), depthwise.weight[entries(out)], bias, padding=2, groups=3).transpose(1, 2)
    torch.testing.assert_close(depthwise(x, out), want)
    torch.testing.assert_close(depthwise.extract(out)(x), want)


@pytest.mark.parametrize("out", SETS)
def test_a_convolution_of_one_channel_has_torchs_values_and_gradients(out: Index) -> None:
    """In training on a CPU it is a product of patches; without gradients, and for export, torch's own operator."""
    conv = ElasticConv2d(1, 6, 3, 2).double()
    x = torch.randn(2, 1, 11, 8, dtype=torch.float64, requires_grad=True)
    assert conv.bias is not None
    inputs = (x, conv.weight, conv.bias)
    want = F.conv2d(x, conv.weight[entries(out)], conv.bias[entries(out)], stride=2)
    got = conv(x, out=out, inp=1)
    torch.testing.assert_close(got, want)
    with torch.no_grad():
        torch.testing.assert_close(conv(x, out=out, inp=1), want, atol=0, rtol=0)
    weights = torch.randn_like(want)
    expected = torch.autograd.grad((want * weights).sum(), inputs)
    torch.testing.assert_close(torch.autograd.grad((got * weights).sum(), inputs), expected)


def test_counts_are_those_of_the_extracted_layer() -> None:
    for layer, count in (
        (ElasticLinear(6, 7).extract(3, 4), ElasticLinear(6, 7).count(3, 4, 1)),
        (ElasticConv2d(4, 6, 3, 2).extract(3, 2), ElasticConv2d(4, 6, 3, 2).count(3, 2, 1)),
        (ElasticDepthwiseConv1d(6, 5).extract(3), ElasticDepthwiseConv1d(6, 5).count(3, 1)),
    ):
        assert count.params == sum(p.numel() for p in layer.parameters())


def test_index_arithmetic() -> None:
    assert scaled(64, 0.75) == 48
    for size, width in ((6, 0.25), (3, 0.1)):
        with pytest.raises(ValueError, match="whole number"):
            scaled(size, width)
    assert in_blocks(2, 4, 4) == 8
    assert entries(in_blocks(2, 4, 3)) == [0, 1, 2, 4, 5, 6]
    assert entries(in_blocks(torch.tensor([1, 3]), 2, 2)) == [2, 3, 6, 7]
    assert in_groups(4, 2, 4) == 8
    assert entries(in_groups(3, 2, 4)) == [0, 1, 2, 4, 5, 6]
    assert entries(in_groups(torch.tensor([1, 2]), 3, 4)) == [1, 2, 5, 6, 9, 10]
    with pytest.raises(ValueError, match="unit 4"):
        choose(4, ranges_of([0, 4]))
