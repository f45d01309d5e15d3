"""The VGG front end against torch's own layers; padding, odd lengths, slices, counts, and no streams."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from slimasr.config.load import load_config
from slimasr.config.model import VggFrontendConfig
from slimasr.encoders.frontend import VggFrontend, build_frontend, shrink_frontend
from slimasr.errors import UserError
from tests.tiny import features, randomize

BINS = 6
CONFIG = VggFrontendConfig(channels=(4, 8, 8, 4))


def vgg(config: VggFrontendConfig = CONFIG) -> VggFrontend:
    built = randomize(build_frontend(config, BINS, 12, 0.0))
    assert isinstance(built, VggFrontend)
    return built


def by_torch(module: VggFrontend, x: Tensor, channels: list[int], outer: int) -> Tensor:
    """One utterance (T, F) through torch's own layers, which hold the first channels of every weight."""
    pool = nn.MaxPool2d((2, 1))
    layers: list[nn.Module] = []
    inp = 1
    for index, (ours, out) in enumerate(zip(module.convs, channels, strict=True)):
        conv = nn.Conv2d(inp, out, 3, padding="same")
        conv.load_state_dict({"weight": ours.weight[:out, :inp], "bias": ours.bias[:out]})
        layers += [conv, nn.ReLU(), pool] if index % 2 else [conv]
        inp = out
    linear = nn.Linear(inp * BINS, outer)
    linear.load_state_dict({"weight": module.linear.weight[:outer, : inp * BINS], "bias": module.linear.bias[:outer]})
    hidden = nn.Sequential(*layers)(x[None, None])[0]
    # Channel c and bin f of a frame are entry c * bins + f of the linear layer's input.
    rows = [[hidden[c, t, f] for c in range(inp) for f in range(BINS)] for t in range(hidden.shape[1])]
    out = linear(torch.stack([torch.stack(row) for row in rows]))
    assert isinstance(out, Tensor)
    return out


@pytest.mark.parametrize(("width", "channels", "outer"), [(1.0, [4, 8, 8, 4], 12), (0.5, [2, 4, 4, 2], 6)])
@pytest.mark.parametrize("training", [True, False])
def test_it_equals_torchs_layers(width: float, channels: list[int], outer: int, training: bool) -> None:
    """With gradients, the first convolution of a CPU is another operation; values and gradients are the same."""
    module = vgg().train(training)
    x, lens = features((11, 4), bins=BINS)
    with torch.set_grad_enabled(training):
        out = module(x, lens, width, outer)
    for row, length in enumerate(lens.tolist()):
        want = by_torch(module, x[row, :length], channels, outer)
        torch.testing.assert_close(out[row, : len(want)], want, atol=1e-5, rtol=1e-5)


def test_gradients_equal_those_of_torchs_layers() -> None:
    module = vgg()
    x = torch.randn(1, 9, BINS, requires_grad=True)
    weights = torch.randn(2, 12)
    got = torch.autograd.grad((module(x, torch.tensor([9]), 1.0, 12)[0] * weights).sum(), x)
    want = torch.autograd.grad((by_torch(module, x[0], [4, 8, 8, 4], 12) * weights).sum(), x)
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


def test_a_padded_batch_equals_utterances_alone() -> None:
    """Lengths 1 to 9 and some odd ones, whatever the padding holds."""
    module, lengths = vgg(), (37, 21, *range(1, 10))
    x, lens = features(lengths, bins=BINS)
    for row, length in enumerate(lengths):
        x[row, length:] = 1e4 * (-1) ** row
    for width, outer in ((1.0, 12), (0.5, 6)):
        together = module(x, lens, width, outer)
        for row, length in enumerate(lengths):
            alone = module(x[row : row + 1, :length], lens[row : row + 1], width, outer)
            assert alone.shape[1] == int(module.output_lens(lens[row])) == length // 4
            torch.testing.assert_close(together[row, : alone.shape[1]], alone[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("width", "outer"), [(1.0, 12), (0.5, 6)])
def test_extraction_and_counts(width: float, outer: int) -> None:
    module = vgg()
    x, lens = features((23,), bins=BINS)
    alone = module.extract(width, outer)
    torch.testing.assert_close(alone(x, lens, 1.0, outer), module(x, lens, width, outer))
    assert alone.config == shrink_frontend(CONFIG, width)
    count = module.count(width, outer, 23)
    assert count.params == sum(p.numel() for p in alone.parameters())
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        alone(x, lens, 1.0, outer)
    assert 2 * count.macs == flops.get_total_flops()


def test_channels_that_a_width_cannot_divide_are_an_error() -> None:
    with pytest.raises(ValueError, match="whole number"):
        vgg(VggFrontendConfig(channels=(4, 8, 6, 4))).count(0.25, 3, 10)


def test_encoders_that_stream_refuse_it(tmp_path: Path) -> None:
    text = "name: a\ndata: {corpus: an4}\nmodel: {frontend: {kind: vgg}, encoder: {kind: mh_ssm, bidirectional: %s}}\n"
    path = tmp_path / "a.yaml"
    path.write_text(text % "true")
    assert load_config(path).model.frontend == VggFrontendConfig()
    path.write_text(text % "false")
    with pytest.raises(UserError, match=r"model.*frontend.kind: vgg needs whole utterances"):
        load_config(path)
    path.write_text("name: a\ndata: {corpus: an4}\nmodel: {frontend: {kind: vgg}, encoder: {kind: emformer}}\n")
    with pytest.raises(UserError, match=r"encoder of kind emformer streams"):
        load_config(path)
