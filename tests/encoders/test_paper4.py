"""The encoder of paper 4: its sizes and MACs to the unit, its block against torch's own layers, padding, extraction."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimasr.config.encoders import ConformerConfig
from slimasr.config.model import VggFrontendConfig
from slimasr.elastic.norm import running_stats
from slimasr.encoders.base import EncoderOutput
from slimasr.encoders.conformer import Conformer, ConformerLayer
from slimasr.supernet.subnet import Subnet
from tests.encoders.kit import (
    assert_extraction_is_exact,
    assert_parts_equal_the_whole,
    assert_the_first_half_depends_on_its_own_units,
    assert_units_can_be_chosen,
)
from tests.tiny import WIDTHS, features, model_config, randomize

PAPER = {"order": ["ffn1", "conv", "heads", "ffn2"], "conv_norm": "layer", "attention": "none"}
LABELS = 79
FRAMES = 7
MODULES = ("ffn1", "conv", "heads", "ffn2")
PIECES = Subnet(0.5, (0, 2), (("0.ffn1", (3, 5, 9)), ("0.heads", 1), ("2.conv", (0, 5, 7)), ("2.ffn2", 0)))


def of_paper_size(d_model: int, layers: int = 12) -> Conformer:
    """The encoder of the paper without values."""
    sizes = {"d_model": d_model, "num_heads": d_model // 64, "head_dim": 64, "ffn_dim": 4 * d_model}
    config = ConformerConfig.model_validate({"num_layers": layers, "kernel_size": 31, **PAPER, **sizes})
    with torch.device("meta"):
        return Conformer(config, VggFrontendConfig(), 80, (1.0,))


def only(layer: ConformerLayer, module: str, d_model: int) -> tuple[int, int]:
    """Parameters of one module with its norm, and its MACs and 5 per element of a layer norm, as fvcore counts."""
    none = dict.fromkeys(MODULES, 0)
    empty = layer.count(d_model, 1.0, none, FRAMES)
    alone = layer.count(d_model, 1.0, {**none, module: None}, FRAMES)
    norms = 2 if module == "conv" else 1
    return alone.params - empty.params, alone.macs - empty.macs + 5 * norms * d_model * FRAMES


@pytest.mark.parametrize(
    ("d_model", "block", "frontend", "total", "by_depth"),
    [
        (384, 3_414_912, 1_057_632, 42_066_991, {8: 28_407_343, 6: 21_577_519, 4: 14_747_695}),
        (512, None, None, 74_152_495, {8: 49_910_319, 4: 25_668_143}),
    ],
)
def test_parameters_to_the_unit(
    d_model: int, block: int | None, frontend: int | None, total: int, by_depth: dict[int, int]
) -> None:
    encoder = of_paper_size(d_model)
    output = d_model * LABELS + LABELS
    assert encoder.count(None, 28).params + output == total
    assert sum(p.numel() for p in encoder.parameters()) + output == total
    for depth, params in by_depth.items():
        assert encoder.count(Subnet(path=tuple(range(depth))), 28).params + output == params
    if block is not None:
        assert output == 30_415
        assert encoder.count_layer(3, Subnet(), FRAMES).params == block
        assert encoder.frontend.count(1.0, d_model, 28).params == frontend


@pytest.mark.parametrize(
    ("d_model", "macs", "frontend", "printed"),
    [
        (384, {"ffn1": 8_270_976, "ffn2": 8_270_976, "conv": 3_206_784, "heads": 4_179_840}, 110_745_600, 3.97e8),
        (512, {"ffn1": 14_697_984, "ffn2": 14_697_984, "conv": 5_651_968, "heads": 7_408_128}, 113_039_360, 6.19e8),
    ],
)
def test_macs_to_the_unit(d_model: int, macs: dict[str, int], frontend: int, printed: float) -> None:
    """Of 28 feature frames; the paper prints the groups' sum and a rounded rest of 110 million."""
    encoder = of_paper_size(d_model, 2)
    layer = encoder.layers[0]
    assert isinstance(layer, ConformerLayer)
    assert {module: only(layer, module, d_model)[1] for module in MODULES} == macs
    assert encoder.output_frames(28) == FRAMES
    assert encoder.count_frontend(Subnet(), 28).macs == frontend
    assert round(12 * sum(macs.values()) + 110e6, -6) == printed


def test_parameters_of_modules_to_the_unit() -> None:
    layer = of_paper_size(384, 1).layers[0]
    assert isinstance(layer, ConformerLayer)
    want = {"ffn1": 1_182_336, "ffn2": 1_182_336, "conv": 457_344, "heads": 592_128}
    assert {module: only(layer, module, 384)[0] for module in MODULES} == want


def by_torch(layer: ConformerLayer, x: Tensor) -> Tensor:
    """One utterance (1, T, C) through a block of torch's own layers with the same weights, in the paper's order."""
    weights, d = layer.state_dict(), x.shape[-1]

    def norm(name: str, x: Tensor) -> Tensor:
        affine = f"{name}.affine.{d}"
        return F.layer_norm(x, (d,), weights[f"{affine}.weight"], weights[f"{affine}.bias"])

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def ffn(name: str, x: Tensor) -> Tensor:
        hidden = F.silu(linear(f"parts.{name}.inner", norm(f"norms.{name}", x)))
        return linear(f"parts.{name}.outer", hidden)

    def conv(x: Tensor) -> Tensor:
        hidden = F.glu(linear("parts.conv.gated", norm("norms.conv", x)), dim=-1).transpose(1, 2)
        filters = weights["parts.conv.depthwise.weight"], weights["parts.conv.depthwise.bias"]
        hidden = F.conv1d(hidden, *filters, padding=2, groups=d).transpose(1, 2)
        return linear("parts.conv.pointwise", F.silu(norm("parts.conv.norm", hidden)))

    def attention(x: Tensor) -> Tensor:
        theirs = nn.MultiheadAttention(d, 4, batch_first=True).eval()
        theirs.load_state_dict(
            {
                "in_proj_weight": weights["parts.heads.in_proj.weight"],
                "in_proj_bias": weights["parts.heads.in_proj.bias"],
                "out_proj.weight": weights["parts.heads.out_proj.weight"],
                "out_proj.bias": weights["parts.heads.out_proj.bias"],
            }
        )
        normed = norm("norms.heads", x)
        out, _ = theirs(normed, normed, normed)
        assert isinstance(out, Tensor)
        return out

    x = x + 0.5 * ffn("ffn1", x)
    x = x + conv(x)
    x = x + attention(x)
    return norm("norms.out", x + 0.5 * ffn("ffn2", x))


def small(**changes: object) -> Conformer:
    """A tiny encoder like the paper's, in evaluation mode with random weights; some utterances are below the kernel."""
    config = model_config(**{**PAPER, "kernel_size": 5, **changes})
    frontend = VggFrontendConfig(channels=(4, 8, 8, 4))
    encoder = randomize(Conformer(config.encoder, frontend, 20, WIDTHS)).eval()
    assert isinstance(encoder, Conformer)
    return encoder


def test_a_block_equals_torchs_layers() -> None:
    encoder = small()
    layer = encoder.layers[1]
    assert isinstance(layer, ConformerLayer)
    x = torch.randn(1, 9, 16)
    got = encoder.run_layers(EncoderOutput(x, torch.tensor([9])), (1,)).out
    torch.testing.assert_close(got, by_torch(layer, x), atol=1e-5, rtol=1e-5)


def test_without_positions_attention_does_not_see_the_order_of_frames() -> None:
    """Without convolutions, which see it, reversed frames give the reversed output."""
    x, lens = torch.randn(1, 9, 16), torch.tensor([9])
    without = Subnet(units=tuple((f"{layer}.conv", 0) for layer in range(3)))
    for attention, same in (("none", True), ("relative", False)):
        encoder = small(attention=attention)
        forwards, backwards = (
            encoder.run_layers(EncoderOutput(frames, lens), (0, 1, 2), without).out for frames in (x, x.flip(1))
        )
        assert torch.allclose(forwards, backwards.flip(1), atol=1e-5) == same
    none, plain = small(), small(attention="plain")
    features_, lens = features((40,))
    assert none.embed(features_, lens).out.equal(none.frontend(features_, lens, 1.0, 16))
    assert not plain.embed(features_, lens).out.equal(none.embed(features_, lens).out)


def test_a_padded_batch_equals_utterances_alone() -> None:
    """Odd lengths and 4 to 9 feature frames, which give 1 or 2 frames, through VGG and layers, at every width."""
    encoder, lengths = small(), (61, 37, *range(4, 10))
    x, lens = features(lengths)
    for row, length in enumerate(lengths):
        x[row, length:] = 1e4 * (-1) ** row
    for subnet in (*map(Subnet, WIDTHS), PIECES):
        together = encoder(x, lens, subnet)
        for row, length in enumerate(lengths):
            alone = encoder(x[row : row + 1, :length], lens[row : row + 1], subnet)
            assert alone.out.shape[1] == int(together.lens[row]) == length // 4
            torch.testing.assert_close(together.out[row, : length // 4], alone.out[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("frames", range(1, 10))
def test_layers_do_not_see_padding_at_any_length(frames: int) -> None:
    encoder, x = small(), torch.randn(2, 12, 16)
    x[1, frames:] = 1e4
    together = encoder.run_layers(EncoderOutput(x, torch.tensor([12, frames])), (0, 1, 2))
    alone = encoder.run_layers(EncoderOutput(x[1:, :frames], torch.tensor([frames])), (0, 1, 2))
    torch.testing.assert_close(together.out[1, :frames], alone.out[0], atol=1e-4, rtol=1e-4)


def test_gradients_of_a_padded_batch_are_those_of_its_utterances() -> None:
    encoder, lengths = small().train(), (37, 21, *range(4, 10))
    x, lens = features(lengths)
    weights = torch.randn(9, 16)

    def gradients(rows: list[int], frames: int) -> list[Tensor]:
        out = encoder(x[rows, :frames], lens[rows]).out
        parts = [(out[i, : lengths[row] // 4] * weights[: lengths[row] // 4]).sum() for i, row in enumerate(rows)]
        return list(torch.autograd.grad(torch.stack(parts).sum(), list(encoder.parameters()), allow_unused=True))

    together = gradients(list(range(len(lengths))), 37)
    alone = [gradients([row], length) for row, length in enumerate(lengths)]
    used = [index for index, gradient in enumerate(together) if gradient is not None]
    assert len(used) > 60
    for index in used:
        want = torch.stack([one[index] for one in alone]).sum(dim=0)
        torch.testing.assert_close(together[index], want, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("norm", ["per_width", "shared", "recalibrated"])
def test_extraction_is_exact(norm: str) -> None:
    config = model_config(**PAPER, norm=norm)
    config = config.model_copy(update={"frontend": VggFrontendConfig(channels=(4, 8, 8, 4))})
    pieces = [PIECES] if norm == "per_width" else []
    assert_extraction_is_exact(config, WIDTHS, [*map(Subnet, WIDTHS), *pieces])


def test_units_halves_and_parts() -> None:
    encoder = small()
    assert_units_can_be_chosen(encoder)
    assert_the_first_half_depends_on_its_own_units(encoder)
    assert_parts_equal_the_whole(encoder, Subnet(0.5))


def test_orders_run_the_same_modules() -> None:
    """The order changes the output, not the weights."""
    usual, ours = small(order=list(MODULES)), small(order=["ffn1", "heads", "conv", "ffn2"])
    ours.load_state_dict(usual.state_dict())
    x, lens = features((40,))
    assert not torch.allclose(usual(x, lens).out, ours(x, lens).out)
    swapped = ["conv", "ffn1", "heads", "ffn2"]
    text = "must name each of ffn1, heads, conv and ffn2 once, ffn2 as the last"
    assert ConformerConfig(order=swapped).order == swapped  # type: ignore[arg-type]
    for wrong in (["ffn1", "ffn2", "conv", "heads"], ["ffn1", "heads", "ffn2"], ["ffn1", "heads", "heads", "ffn2"]):
        with pytest.raises(ValueError, match=text):
            ConformerConfig(order=wrong)  # type: ignore[arg-type]


def test_dropout_of_attention_weights_is_torchs_in_the_mean() -> None:
    """Dropped weights are not renormalised: the expected output is that without dropout."""
    encoder = small(attention_dropout=0.4)
    layer = encoder.layers[0]
    assert isinstance(layer, ConformerLayer)
    attention, x = layer.parts["heads"], torch.randn(1, 5, 16)
    padding = torch.zeros(1, 5, dtype=torch.bool)
    with torch.no_grad():
        want = attention(x, padding, None, 1.0)
        assert attention.extract(16, 1.0, None).attention_dropout.p == 0.4  # type: ignore[operator]
        attention.train()
        torch.manual_seed(0)
        many = attention(x.expand(4000, 5, 16), padding.expand(4000, 5), None, 1.0)
    assert (many[0] - many[1]).abs().max() > 0.1
    torch.testing.assert_close(many.mean(dim=0), want[0], atol=0.05, rtol=0.0)


def test_layer_norms_need_no_calibration() -> None:
    assert running_stats(small()) == []
    assert running_stats(small(conv_norm="batch"))
