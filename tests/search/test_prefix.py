"""Hidden states that are kept: of every encoder, and of branches of a tree, equal to running all layers."""

from __future__ import annotations

import pytest
import torch

from slimasr.config.encoder_section import TreeConfig
from slimasr.config.encoders import EmformerConfig, EncoderConfig, MhSsmConfig
from slimasr.config.model import StackFrontendConfig
from slimasr.models.transducer import Transducer
from slimasr.search.prefix import PrefixCache, layer_keys
from slimasr.supernet.subnet import Subnet
from tests.tiny import ENCODER, MODEL, VOCAB_SIZE, batch, randomize

SIZES = {"d_model": 16, "ffn_dim": 32, "dropout": 0.0}
ENCODERS: list[tuple[EncoderConfig, str]] = [
    (ENCODER, "ffn2"),
    (MhSsmConfig(**SIZES, ssm_state=8), "ffn"),
    (EmformerConfig(**SIZES, num_heads=4, segment=3, left_context=4, memory=2, position="relative"), "ffn"),
]
TREE = TreeConfig(shared=2, depths=[4, 3])


def made(config: EncoderConfig) -> Transducer:
    encoder = config.model_copy(update={"num_layers": 4, "tree": TREE})
    model = Transducer(MODEL.model_copy(update={"encoder": encoder, "frontend": StackFrontendConfig()}), VOCAB_SIZE)
    return randomize(model).eval()  # type: ignore[return-value]


def subnets(module: str, *, heads: bool) -> list[Subnet]:
    """Branches and depths, with choices in either half of a layer."""
    branch = (0, 1, 4)
    found = [Subnet(), Subnet(1.0, branch), Subnet(1.0, (0, 1)), Subnet(1.0, (0, 1), ((f"1.{module}", 5),))]
    found += [Subnet(1.0, branch, ((f"0.{module}", 8),)), Subnet(1.0, branch, ((f"0.{module}", 8), (f"4.{module}", 3)))]
    if heads:
        found += [Subnet(1.0, branch, (("4.heads", (1, 2)),)), Subnet(1.0, None, (("1.heads", 2), (f"3.{module}", 0)))]
    return found


@pytest.mark.parametrize("states", [1000, 10, 5])
@pytest.mark.parametrize(("config", "module"), ENCODERS, ids=lambda value: getattr(value, "kind", ""))
def test_the_output_is_that_of_all_layers(config: EncoderConfig, module: str, states: int) -> None:
    """With room for all states, for those of one subnet at a time, and for too few of them."""
    model, data = made(config), batch()
    with torch.no_grad():
        size = model.encoder.embed(model.normalize(data.x), data.x_lens).num_bytes
        cache = PrefixCache(states * size, 1)
        for subnet in [*subnets(module, heads=config.kind != "mh_ssm")] * 2:
            found = cache.encode(0, data, model, subnet, subnet)
            want = model.encode(data.x, data.x_lens, subnet)
            assert found.out.equal(want.out) and found.lens.equal(want.lens)
    room = cache._rooms[0]
    assert (room is None) == (states < 9)
    if room is not None:
        kept = sum(state.num_bytes for state in room.hidden.values())
        assert kept == room.size - room.left <= states * size


def test_choices_of_every_form_have_an_order() -> None:
    """Numbers, ranges and omitted modules are sorted together, as the search does to bring equal prefixes together."""
    chosen = [2, ((1, 3),), 0, ((0, 1), (2, 3)), 3]
    subnets = [Subnet(units=(("0.ffn", units),)) for units in chosen]
    ordered = sorted(subnets, key=lambda subnet: layer_keys(subnet, (0, 1)))
    assert [subnet.units_of(0, "ffn") for subnet in ordered] == [0, ((0, 1), (2, 3)), 2, 3, ((1, 3),)]
