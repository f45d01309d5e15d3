"""What paper 2 asks of the feed-forward module: GELU, and dropout in proportion to what runs."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from slimasr.elastic.feed_forward import ElasticFeedForward
from slimasr.supernet.subnet import Units, ranges_of
from tests.tiny import randomize

# A multiple of 2^-16 at every width, so that the dropout that applies is exactly this one.
P = 0.375
SET = ranges_of([1, 5, 9, 13])


def test_gelu_equals_torch_on_the_slice() -> None:
    module = randomize(ElasticFeedForward(8, 16, 0.0, "gelu"))
    assert isinstance(module, ElasticFeedForward)
    x = torch.randn(2, 5, 4)
    hidden = F.gelu(F.linear(x, module.inner.weight[:6, :4], module.inner.bias[:6]))
    want = F.linear(hidden, module.outer.weight[:4, :6], module.outer.bias[:4])
    torch.testing.assert_close(module(x, 0.5, 6), want)
    torch.testing.assert_close(module.extract(4, 0.5, 6)(x, 1.0), want)


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize(("width", "units"), [(1.0, None), (1.0, 8), (1.0, SET), (0.5, None), (0.5, 2)])
def test_share_of_hidden_channels_dropped(width: float, units: Units | None, adaptive: bool) -> None:
    """Hidden channel i feeds output i mod 16 alone; an output survives both dropouts with known probability."""
    torch.manual_seed(0)
    module = ElasticFeedForward(16, 16, P, "gelu", adaptive=adaptive)
    with torch.no_grad():
        module.inner.weight.zero_()
        module.inner.bias.fill_(1.0)
        module.outer.weight.copy_(torch.eye(16))
        module.outer.bias.zero_()
    running = [1, 5, 9, 13] if units == SET else list(range(units or int(16 * width)))
    out = module(torch.zeros(1, 40000, int(16 * width)), width, units)[0][:, running]
    hidden = P * len(running) / 16 if adaptive else P
    kept = (1 - hidden) * (1 - P)
    number = out.numel()
    share = (out != 0).double().mean().item()
    assert abs(share - kept) < 5 * math.sqrt(kept * (1 - kept) / number)
    values = out[out != 0]
    torch.testing.assert_close(values, torch.full_like(values, F.gelu(torch.ones(())).item() / kept))
    kept_all = module.eval()(torch.zeros(1, 1, int(16 * width)), width, units)[..., running]
    torch.testing.assert_close(kept_all, F.gelu(torch.ones_like(kept_all)))
