"""The stacking front end against its definition, frame by frame; slices, lengths, extraction."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from slimasr.config.model import StackFrontendConfig
from slimasr.encoders.frontend import Frontend, StackFrontend, build_frontend, shrink_frontend
from tests.tiny import randomize

CONFIG = StackFrontendConfig(factor=3)


def frontend(d_model: int = 12) -> StackFrontend:
    built = randomize(build_frontend(CONFIG, 5, d_model, 0.0))
    assert isinstance(built, StackFrontend)
    return built


def run(module: Frontend, x: torch.Tensor, width: float, outer: int) -> torch.Tensor:
    """The front end on utterances without padding."""
    out = module(x, torch.tensor([x.shape[1]] * x.shape[0]), width, outer)
    assert isinstance(out, torch.Tensor)
    return out


@pytest.mark.parametrize("outer", [12, 6])
def test_every_frame_gets_its_own_share_of_the_channels(outer: int) -> None:
    """Channel c of stack t is channel c // 3 of the linear layer at frame 3 t + c % 3."""
    module, x = frontend(), torch.randn(2, 8, 5)
    out = run(module, x, outer / 12, outer)
    assert out.shape == (2, 2, outer)
    for stack in range(2):
        for channel in range(outer):
            frame = x[:, 3 * stack + channel % 3]
            want = frame @ module.linear.weight[channel // 3] + module.linear.bias[channel // 3]
            torch.testing.assert_close(out[:, stack, channel], want)


def test_a_width_slice_is_a_prefix() -> None:
    module, x = frontend(), torch.randn(2, 9, 5)
    torch.testing.assert_close(run(module, x, 0.5, 6), run(module, x, 1.0, 12)[..., :6])
    run(module, x, 0.5, 6).sum().backward()
    assert (module.linear.weight.grad[2:] == 0).all() and (module.linear.weight.grad[:2] != 0).all()


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 5, 6, 100])
def test_lengths_are_those_of_the_output(frames: int) -> None:
    module = frontend()
    assert run(module, torch.randn(1, frames, 5), 1.0, 12).shape[1] == int(module.output_lens(torch.tensor(frames)))


def test_padding_stays_out_of_valid_frames() -> None:
    module, x = frontend(), torch.randn(1, 12, 5)
    alone = run(module, x[:, :8], 1.0, 12)
    x[:, 8:] = 1e4
    torch.testing.assert_close(module(x, torch.tensor([8]), 1.0, 12)[:, : alone.shape[1]], alone)


@pytest.mark.parametrize(("width", "outer"), [(1.0, 12), (0.5, 6)])
def test_extraction_and_counts(width: float, outer: int) -> None:
    module, x = frontend(), torch.randn(2, 10, 5)
    alone = module.extract(width, outer)
    torch.testing.assert_close(run(alone, x, 1.0, outer), run(module, x, width, outer))
    count = module.count(width, outer, 10)
    assert count.params == sum(p.numel() for p in alone.parameters())
    with FlopCounterMode(display=False) as flops:
        run(alone, x[:1], 1.0, outer)
    assert 2 * count.macs == flops.get_total_flops()
    assert alone.config == CONFIG == shrink_frontend(CONFIG, width)


def test_channels_that_frames_cannot_share_are_an_error() -> None:
    with pytest.raises(ValueError, match="10 channels cannot be shared by 3 stacked frames"):
        frontend(10)
    with pytest.raises(ValueError, match="4 channels cannot be shared by 3 stacked frames"):
        frontend().count(1 / 3, 4, 10)
