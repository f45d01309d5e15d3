"""The CTC models of paper 4 to the unit: parameters of the whole and of its first blocks, MACs, and costs of groups."""

from __future__ import annotations

import pytest
import torch

from slimasr.config.encoders import ConformerConfig
from slimasr.config.model import CtcConfig, VggFrontendConfig
from slimasr.supernet.groups import group_costs
from slimasr.supernet.subnet import Subnet

ctc = pytest.importorskip("slimasr.models.ctc")

LABELS = 79
SECONDS = 0.28
"""28 feature frames, as the authors count."""


def model(d_model: int) -> ctc.CtcModel:
    """The model without values."""
    sizes = {"d_model": d_model, "num_heads": d_model // 64, "head_dim": 64, "ffn_dim": 4 * d_model, "num_layers": 12}
    paper = {"order": ["ffn1", "conv", "heads", "ffn2"], "conv_norm": "layer", "attention": "none"}
    encoder = ConformerConfig.model_validate({"kernel_size": 31, **paper, **sizes})
    with torch.device("meta"):
        return ctc.CtcModel(CtcConfig(encoder=encoder, frontend=VggFrontendConfig()), LABELS)


@pytest.mark.parametrize(
    ("d_model", "by_depth"),
    [
        (384, {12: 42_066_991, 8: 28_407_343, 6: 21_577_519, 4: 14_747_695}),
        (512, {12: 74_152_495, 8: 49_910_319, 4: 25_668_143}),
    ],
)
def test_parameters_to_the_unit(d_model: int, by_depth: dict[int, int]) -> None:
    whole = model(d_model)
    assert sum(p.numel() for p in whole.parameters()) == by_depth[12] == whole.count().params
    for depth, params in by_depth.items():
        assert whole.count(Subnet(path=tuple(range(depth)))).params == params


@pytest.mark.parametrize(
    ("d_model", "of_block", "rest"),
    [
        (384, 2 * 8_270_976 + 3_206_784 + 4_179_840, 110_745_600 + 7 * 384 * LABELS),
        (512, 2 * 14_697_984 + 5_651_968 + 7_408_128, 113_039_360 + 7 * 512 * LABELS),
    ],
)
def test_costs_of_groups_add_up_to_the_model(d_model: int, of_block: int, rest: int) -> None:
    """Ours without norms, to which fvcore adds 5 per element: one in an FFN and in attention, two in a convolution."""
    whole = model(d_model)
    groups = whole.encoder.groups("component")
    outside, costs = group_costs(whole, groups, "macs", SECONDS)
    assert outside * SECONDS == pytest.approx(rest)
    norms = 5 * 5 * 7 * d_model
    assert sum(costs) * SECONDS == pytest.approx(12 * (of_block - norms))
    outside, costs = group_costs(whole, groups, "params", SECONDS)
    assert outside + sum(costs) == pytest.approx(whole.count().params)
    # Only the last norm of every block belongs to no group.
    frontend = whole.encoder.frontend.count(1.0, d_model, 28).params
    assert outside == frontend + 12 * 2 * d_model + (d_model + 1) * LABELS
