"""Indices that a layer keeps: made once per choice and device, and of no effect on what it computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from slimasr.elastic.attention import ElasticAttention
from slimasr.elastic.conv_module import ElasticConvModule
from slimasr.elastic.feed_forward import ElasticFeedForward
from slimasr.elastic.index import MOST_KEPT, IndexTable
from slimasr.elastic.multi_head_ssm import MultiHeadSsm, SsmOptions
from slimasr.supernet.subnet import ranges_of

PADDING = torch.zeros(2, 5, dtype=torch.bool)
SET = ranges_of([0, 2, 3])


def runs() -> dict[str, tuple[nn.Module, Any]]:
    """Layers, and a pass of each whose indices are tensors."""
    torch.manual_seed(0)
    x = torch.randn(2, 5, 8)
    ffn, conv = ElasticFeedForward(8, 4, 0.0), ElasticConvModule(8, 4, 3, (4,), "per_width", 0.0)
    heads = ElasticAttention(8, 4, 2, None, "head_count", 0.0)
    ssm = MultiHeadSsm(8, 2, SsmOptions(1, 4, True, "fft", "per_width", (0.01, 0.1), False), (8, 4))
    return {
        "ffn": (ffn, lambda: ffn(x, 1.0, SET)),
        "conv": (conv, lambda: conv(x, PADDING, 1.0, SET)),
        "heads": (heads, lambda: heads(x, PADDING, None, 1.0, SET)),
        "ssm": (ssm, lambda: ssm(x[..., :4], PADDING)),
    }


class Made(TorchDispatchMode):
    """Counts the integer tensors that are made."""

    number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.number += isinstance(out, torch.Tensor) and out.dtype == torch.int64
        return out


@pytest.mark.parametrize("name", ["ffn", "conv", "heads", "ssm"])
def test_indices_are_made_once(name: str) -> None:
    layer, run = runs()[name]
    layer.eval()  # batch norms count frames in training
    with Made() as first:
        before = run()
    with Made() as second:
        again = run()
    assert first.number > 0 and second.number == 0
    torch.testing.assert_close(again, before, rtol=0, atol=0)
    # Nothing is kept of the weights.
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(1.0)
    assert not torch.allclose(run(), before)
    assert "indices" not in "".join(layer.state_dict())


@pytest.mark.parametrize("name", ["ffn", "conv", "heads", "ssm"])
def test_indices_made_in_inference_mode_serve_training(name: str) -> None:
    layer, run = runs()[name]
    with torch.inference_mode():
        run()
    run().sum().backward()
    assert any(parameter.grad is not None for parameter in layer.parameters())


def test_every_device_has_its_own_and_a_table_stays_small() -> None:
    table, made = IndexTable(), []

    def get(key: int, device: str = "cpu") -> torch.Tensor:
        return table.get(key, torch.device(device), lambda: made.append(key) or torch.arange(key))

    assert get(3).tolist() == [0, 1, 2] and get(3) is get(3) and get(3, "meta").device.type == "meta"
    assert made == [3, 3]
    for key in range(2 * MOST_KEPT):
        assert get(key).numel() == key
        assert len(table._made) <= MOST_KEPT
