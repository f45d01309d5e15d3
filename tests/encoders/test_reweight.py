"""Parameters reweighted by gates: at 0 and 1 the subnet of the kept groups, in between the formula; gradients."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from slimasr.config.encoders import ConformerConfig, EmformerConfig, EncoderConfig, MhSsmConfig
from slimasr.config.model import FrontendConfig, StackFrontendConfig, VggFrontendConfig
from slimasr.elastic.gates import Side
from slimasr.encoders.base import Encoder
from slimasr.encoders.build import build_encoder
from slimasr.encoders.grouping import Granularity
from slimasr.supernet.groups import Group, subnet_of
from tests.tiny import ENCODER, encoder_config, features, randomize

STACK = StackFrontendConfig()
VGG = VggFrontendConfig(channels=(2, 4, 4, 2))
SSM = MhSsmConfig(d_model=16, num_layers=3, ssm_heads=2, ssm_stacks=1, ssm_state=4, ffn_dim=48, dropout=0.0)
EMFORMER = EmformerConfig(d_model=16, num_layers=3, num_heads=4, ffn_dim=48, dropout=0.0, position="relative")
PAPER = encoder_config(order=["ffn1", "conv", "heads", "ffn2"], conv_norm="layer", attention="none", ffn_dim=64)
ENCODERS: dict[str, tuple[EncoderConfig, FrontendConfig]] = {
    "paper": (PAPER, VGG),
    "relative": (ENCODER, STACK),
    "head_size": (encoder_config(slimming="head_size", attention="plain"), STACK),
    "mh_ssm": (SSM, STACK),
    "emformer": (EMFORMER, STACK),
    "emformer with summaries": (EMFORMER.model_copy(update={"memory": 2}), STACK),
    "emformer with convolution": (EMFORMER.model_copy(update={"macaron": True, "conv_kernel": 5}), STACK),
}
SIDES: tuple[Side, ...] = ("both", "output")


def built(name: str) -> Encoder:
    """A tiny encoder in evaluation mode with random weights."""
    encoder = randomize(build_encoder(*ENCODERS[name], 20, (1.0,))).eval()
    assert isinstance(encoder, Encoder)
    return encoder


def kept_sets(groups: list[Group]) -> Iterator[list[Group]]:
    """All, none, one, all but the last layer's and the first module of each layer alone, and random choices."""
    yield groups
    yield []
    yield groups[1:2]
    yield [group for group in groups if group.layer < 2]
    yield [group for group in groups if group.module == groups[0].module]
    rng = random.Random(0)
    for share in (0.3, 0.6):
        yield [group for group in groups if rng.random() < share]


@pytest.mark.parametrize(("granularity", "side"), [("component", "both"), ("component", "output"), ("layer", "output")])
@pytest.mark.parametrize("name", ENCODERS)
def test_at_gates_of_0_and_1_it_is_the_subnet(name: str, granularity: Granularity, side: Side) -> None:
    """The reweighted supernet, the subnet by index sets, and the extracted model."""
    encoder, (x, lens) = built(name), features((61, 40))
    groups = encoder.groups(granularity)
    for kept in kept_sets(groups):
        gates = torch.tensor([float(group in kept) for group in groups])
        subnet = subnet_of(kept, groups)
        want = encoder.extract(subnet).eval()(x, lens).out
        by_gates = functional_call(encoder, encoder.reweight(gates, groups, side), (x, lens)).out
        torch.testing.assert_close(by_gates, want, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(encoder(x, lens, subnet).out, want, atol=1e-5, rtol=1e-5)


def test_the_groups_of_the_paper() -> None:
    """FFN chunks of d_model channels, heads and convolutions, in running order; or whole modules."""
    for d_model, component in ((384, 180), (512, 204)):
        sizes = {"d_model": d_model, "num_heads": d_model // 64, "ffn_dim": 4 * d_model, "num_layers": 12}
        config = ConformerConfig.model_validate({"order": ["ffn1", "conv", "heads", "ffn2"], **sizes})
        with torch.device("meta"):
            encoder = build_encoder(config, VggFrontendConfig(), 80, (1.0,))
        groups = encoder.groups("component")
        assert (len(groups), len(encoder.groups("layer"))) == (component, 48)
        names = [(group.module, group.start, group.stop) for group in groups if group.layer == 3]
        ffn = [(start, start + d_model) for start in range(0, 4 * d_model, d_model)]
        heads = [("heads", head, head + 1) for head in range(d_model // 64)]
        chunks = [[(module, *chunk) for chunk in ffn] for module in ("ffn1", "ffn2")]
        assert names == [*chunks[0], ("conv", 0, d_model), *heads, *chunks[1]]
        assert [group.layer for group in groups] == sorted(group.layer for group in groups)


@pytest.mark.parametrize("name", ENCODERS)
def test_modules_that_were_extracted_away_have_no_groups(name: str) -> None:
    encoder = built(name)
    groups = encoder.groups("component")
    alone = encoder.extract(subnet_of(groups[:1], groups))
    assert [group.module for group in alone.groups("layer")] == [groups[0].module]


def by_hand(encoder: Encoder, module: str, x: Tensor, gates: list[float], side: Side) -> Tensor:
    """One module of the paper's block on (T, C) frames in a loop over its groups, without its norm."""
    part = encoder.get_submodule(encoder.module_name(1, module))
    w = {name: value.double() for name, value in part.state_dict().items()}
    inner_gates = gates if side == "both" else [1.0] * len(gates)
    if module == "conv":
        whole: Tensor = part(x[None].float(), torch.zeros(1, len(x), dtype=torch.bool), 1.0)[0].double()
        return gates[0] * (whole - w["pointwise.bias"]) + min(1.0, gates[0]) * w["pointwise.bias"]
    bias = w["outer.bias" if module == "ffn1" else "out_proj.bias"]
    out = min(1.0, sum(gates)) * bias.repeat(len(x), 1)
    for group, (gate, inner_gate) in enumerate(zip(gates, inner_gates, strict=True)):
        if module == "ffn1":
            units = range(16 * group, 16 * group + 16)
            for unit in units:
                hidden = inner_gate * (x @ w["inner.weight"][unit] + w["inner.bias"][unit])
                out = out + gate * (hidden * hidden.sigmoid()).outer(w["outer.weight"][:, unit])
            continue
        rows = [slice(block * 16 + 4 * group, block * 16 + 4 * group + 4) for block in range(3)]
        q, k, v = (inner_gate * (x @ w["in_proj.weight"][r].T + w["in_proj.bias"][r]) for r in rows)
        context = (q @ k.T / 2.0).softmax(dim=1) @ v
        out = out + gate * context @ w["out_proj.weight"][:, rows[0]].T
    return out


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("module", ["ffn1", "conv", "heads"])
def test_soft_gates_are_the_formula(module: str, side: Side) -> None:
    """Gates of 0, between 0 and 1, and above 1, whose sum is above and below 1."""
    encoder = built("paper")
    groups = [group for group in encoder.groups("component") if (group.layer, group.module) == (1, module)]
    x = torch.randn(5, 16, dtype=torch.float64)
    name = encoder.module_name(1, module)
    part = encoder.get_submodule(name)
    no_padding = torch.zeros(1, 5, dtype=torch.bool)
    args = {"ffn1": (1.0,), "conv": (no_padding, 1.0), "heads": (no_padding, None, 1.0)}[module]
    for gates in ([0.3, 0.0, 0.2, 0.1], [0.4, 1.3, 0.0, 1.0]):
        found = encoder.reweight(torch.tensor(gates[: len(groups)]), groups, side)
        own = {key.removeprefix(f"{name}."): value for key, value in found.items()}
        assert set(own) <= dict(part.named_parameters()).keys()
        out = functional_call(part, own, (x[None].float(), *args))[0]
        want = by_hand(encoder, module, x, gates[: len(groups)], side)
        torch.testing.assert_close(out.double(), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ["paper", "relative", "mh_ssm"])
def test_gradients_are_finite_differences(name: str, side: Side) -> None:
    """Of a loss of the whole encoder by the gates, in float64; no sum of gates is at the bend of min(1, sum)."""
    encoder, (x, lens) = built(name).double(), features((24, 13))
    groups = encoder.groups("component")
    weights = torch.randn(6, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for low in (0.02, 0.6):
        start = low + 0.3 * torch.rand(len(groups), dtype=torch.float64, generator=torch.Generator().manual_seed(2))

        def loss(gates: Tensor) -> Tensor:
            tensors = encoder.reweight(gates, groups, side)
            out = functional_call(encoder, tensors, (x.double(), lens)).out
            return (out[0] * weights).sum()

        assert torch.autograd.gradcheck(loss, (start.requires_grad_(),), eps=1e-6, atol=1e-6, fast_mode=True)


def test_with_both_sides_a_gate_of_0_has_no_gradient() -> None:
    """So what lets gates reach 0 must scale the output alone."""
    encoder, (x, lens) = built("paper"), features((40,))
    groups = encoder.groups("component")
    empty = torch.tensor([group.module in ("ffn1", "heads") and group.start < 32 for group in groups])
    heads = torch.tensor([group.module == "heads" for group in groups])
    for side in SIDES:
        gates = torch.where(empty, 0.0, 1.0).requires_grad_()
        functional_call(encoder, encoder.reweight(gates, groups, side), (x, lens)).out.square().sum().backward()
        assert gates.grad is not None
        # The bias of a module whose other chunks are complete is beyond the bend of min(1, sum).
        chunks = gates.grad[empty & ~heads]
        assert (chunks == 0).all() if side == "both" else (chunks != 0).all()


def test_weights_of_a_closed_gate_get_no_gradient() -> None:
    encoder, (x, lens) = built("paper"), features((40,))
    groups = encoder.groups("component")
    gates = torch.tensor([0.0 if (group.module, group.start) == ("ffn1", 16) else 1.0 for group in groups])
    functional_call(encoder, encoder.reweight(gates, groups), (x, lens)).out.square().sum().backward()
    part = encoder.get_submodule("layers.0.parts.ffn1")
    rows = part.get_parameter("inner.weight").grad
    columns = part.get_parameter("outer.weight").grad
    assert rows is not None and columns is not None
    assert (rows[16:32] == 0).all() and (columns[:, 16:32] == 0).all()
    assert (rows[:16] != 0).any() and (columns[:, 32:] != 0).any()


def test_what_cannot_be_cut_is_an_error() -> None:
    config = encoder_config(ffn_dim=40)
    encoder = build_encoder(config, STACK, 20, (1.0,))
    assert len(encoder.groups("layer")) == 12
    with pytest.raises(ValueError, match=r"ffn1 of layer 0 has 40 channels.*chunks of 16 \(d_model\)"):
        encoder.groups("component")
    encoder = built("relative")
    groups = encoder.groups("component")
    wrong = [groups[:1], groups[1:], [*groups[1::-1], *groups[2:]]]
    for some in wrong:
        with pytest.raises(ValueError, match="groups must hold each of 32 units once, in order"):
            encoder.reweight(torch.ones(len(some)), some)
